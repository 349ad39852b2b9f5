//! The authorization endpoint, and the pages on which one picks a person and gives a one-time code.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::json;
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::{
    AuthorizationRequest, ClientSession, Code, FakeError, FakeKeycloak, PendingLogin, broken, keys,
    levels::{Asked, ONE_TIME_CODE, UnknownLevel},
    oidc::{Parameters, redirect},
    pages,
    realm::{Client, Realm, UserRecord},
};

const ORGANIZATION_PREFIX: &str = "/organizations/";
const TEAM_PREFIX: &str = "/teams/";

/// What somebody answers to a page.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer<'a> {
    /// This user name.
    Person(&'a str),
    /// This one-time code.
    Code(&'a str),
}

impl FakeKeycloak {
    pub(super) fn authorize(&self, realm: &str, headers: &HeaderMap, parameters: &Parameters) -> Response {
        if let Some(refusal) = self.unknown_realm(realm) {
            return refusal;
        }
        let Some(client) = parameters.get("client_id").and_then(|id| self.realm.client(id)) else {
            return pages::error(StatusCode::BAD_REQUEST, "Client not found.");
        };
        if !client.enabled {
            return pages::error(StatusCode::BAD_REQUEST, "Client disabled.");
        }
        if client.bearer_only {
            return pages::error(
                StatusCode::FORBIDDEN,
                "Bearer-only applications are not allowed to initiate browser login.",
            );
        }
        let Some(redirect_uri) = parameters.owned("redirect_uri").filter(|uri| client.allows_redirect(uri))
        else {
            return pages::error(StatusCode::BAD_REQUEST, "Invalid parameter: redirect_uri");
        };
        let response_type = parameters.get("response_type");
        let mode = parameters.get("response_mode");
        let asked = Asked::read(parameters, &self.realm);
        let request = AuthorizationRequest {
            client_id: client.client_id.clone(),
            redirect_uri,
            scope: parameters.owned("scope").unwrap_or_default(),
            state: parameters.owned("state"),
            nonce: parameters.owned("nonce"),
            code_challenge: parameters.owned("code_challenge"),
            code_challenge_method: parameters.owned("code_challenge_method"),
            fragment: mode == Some("fragment")
                || mode.is_none() && response_type.is_some_and(|kind| kind != "code"),
            login_hint: parameters.owned("login_hint"),
            level: asked.map_or(0, |asked| asked.level),
        };
        let refuse = |error: &str, description: Option<&str>| {
            let mut answer = vec![("error", error)];
            answer.extend(description.map(|description| ("error_description", description)));
            self.send_back(&request, &answer, &[])
        };
        match response_type {
            None => return refuse("invalid_request", Some("Missing parameter: response_type")),
            Some("code") if client.standard_flow_enabled => {}
            Some("code") => {
                return refuse(
                    "unauthorized_client",
                    Some(
                        "Client is not allowed to initiate browser login with given response_type. \
                         Standard flow is disabled for the client.",
                    ),
                );
            }
            Some(
                "token"
                | "id_token"
                | "id_token token"
                | "code token"
                | "code id_token"
                | "code id_token token",
            ) => {
                return refuse(
                    "unauthorized_client",
                    Some(
                        "Client is not allowed to initiate browser login with given response_type. \
                         Implicit flow is disabled for the client.",
                    ),
                );
            }
            Some(_) => return refuse("unsupported_response_type", None),
        }
        if !matches!(mode, None | Some("query" | "fragment")) {
            return refuse("invalid_request", Some("Invalid parameter: response_mode"));
        }
        if parameters.duplicated {
            return refuse("invalid_request", Some("duplicated parameter"));
        }
        if !Realm::scope_is_valid(client, &request.scope) {
            return refuse("invalid_scope", Some(&format!("Invalid scopes: {}", request.scope)));
        }
        if let Err(description) = check_challenge(client, &request) {
            return refuse("invalid_request", Some(description));
        }
        let prompts = |wanted: &str| {
            parameters
                .get("prompt")
                .is_some_and(|prompt| prompt.split_whitespace().any(|word| word == wanted))
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(UnknownLevel) => {
                return pages::error(StatusCode::BAD_REQUEST, "Authentication requirements not fulfilled");
            }
        };
        // The cookie counts only here: elsewhere one browser can be several people.
        let session = Some(headers)
            .filter(|_| request.level >= ONE_TIME_CODE)
            .and_then(|headers| self.browser_session(headers, &request));
        let now = self.now();
        let next = session.as_ref().map(|(id, user)| {
            self.state.read(|state| match state.sessions.get(id) {
                Some(session) if session.is_too_old(asked.max_age, now) || prompts("login") => Next::Person,
                Some(session) if session.level(now, &self.realm) >= request.level => Next::Back(*user),
                _ => Next::Code(*user),
            })
        });
        let next = next.unwrap_or(Next::Person);
        if prompts("none") && !matches!(next, Next::Back(_)) {
            return refuse("login_required", None);
        }
        let answer = match next {
            Next::Back(user) => self.finish(&request, client, session.as_ref(), user),
            Next::Person => self.ask(request, session, None),
            Next::Code(user) => self.ask(request, session, Some(user)),
        };
        answer.unwrap_or_else(|error| broken(&error))
    }

    /// Shows the first page: for a one-time code where `user` is known, else for who it is.
    fn ask(
        &self,
        request: AuthorizationRequest,
        session: Option<(String, Uuid)>,
        user: Option<Uuid>,
    ) -> Result<Response, FakeError> {
        let session_code = self.secret_id();
        let now = self.now();
        let expires = now + self.realm.access_code_lifespan_login;
        let login = PendingLogin {
            expires,
            request,
            session,
            user,
            new_secret: user.and_then(|user| self.new_secret(user)),
        };
        let page = self.page_for(&session_code, &login, None);
        self.state.update(|state| {
            state.forget_what_expired(now, &self.realm);
            state.logins.insert(session_code, login);
        })?;
        Ok(page)
    }

    /// The page that a login is at.
    fn page_for(&self, session_code: &str, login: &PendingLogin, alert: Option<&str>) -> Response {
        match login.user {
            Some(user) => self.code_page(session_code, login, user, alert),
            None => self.login_page(session_code, login, alert),
        }
    }

    /// The session that the browser's cookie names, for the host to which it goes back, and its user.
    fn browser_session(&self, headers: &HeaderMap, request: &AuthorizationRequest) -> Option<(String, Uuid)> {
        let name = cookie_name(request)?;
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let session = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find(|(known, _)| *known == name)?
            .1
            .to_owned();
        let user = self.session_user(&session)?.id;
        Some((session, user))
    }

    /// A secret for who has none, as the real one has them set up an authenticator.
    fn new_secret(&self, user: Uuid) -> Option<String> {
        let has_one = self.state.read(|state| {
            state.directory.users.iter().any(|known| known.id == user && known.otp_secret.is_some())
        });
        (!has_one).then(|| self.secret_id())
    }

    pub(super) fn login_page(
        &self,
        session_code: &str,
        login: &PendingLogin,
        alert: Option<&str>,
    ) -> Response {
        let request = &login.request;
        // Who proves again who they are can't be somebody else.
        let only = login.session.as_ref().map(|(_, user)| *user);
        let hint = request.login_hint.as_deref().map(str::to_lowercase);
        let mut people: Vec<(bool, pages::Person)> = self.state.read(|state| {
            let directory = &state.directory;
            let people = directory.users.iter().filter(|user| user.service_account_client_id.is_none());
            people
                .filter(|user| only.is_none_or(|only| only == user.id))
                .map(|user| {
                    let hinted = hint.as_ref().is_some_and(|hint| {
                        *hint == user.username || user.email.as_ref().is_some_and(|email| hint == email)
                    });
                    let person = pages::Person {
                        username: user.username.clone(),
                        name: user.full_name().unwrap_or_else(|| user.username.clone()),
                        about: self.about(&directory.paths(user), user),
                    };
                    (hinted, person)
                })
                .collect()
        });
        people.sort_by_key(|(hinted, _)| !hinted);
        let people: Vec<pages::Person> = people.into_iter().map(|(_, person)| person).collect();
        pages::login(&people, &self.action(session_code, request), &self.form_targets(request), alert)
    }

    fn code_page(
        &self,
        session_code: &str,
        login: &PendingLogin,
        user: Uuid,
        alert: Option<&str>,
    ) -> Response {
        let now = self.now();
        let code = self.state.read(|state| {
            let user = state.directory.users.iter().find(|known| known.id == user)?;
            let secret = login.new_secret.as_ref().or(user.otp_secret.as_ref())?;
            Some(user.next_code(secret, now))
        });
        let request = &login.request;
        let action = self.action(session_code, request);
        pages::one_time_code(&code.unwrap_or_default(), &action, &self.form_targets(request), alert)
    }

    /// Where the form of a page goes.
    fn action(&self, session_code: &str, request: &AuthorizationRequest) -> String {
        let client_id: String = form_urlencoded::byte_serialize(request.client_id.as_bytes()).collect();
        format!(
            "{}/login-actions/authenticate?session_code={session_code}&client_id={client_id}",
            self.issuer
        )
    }

    /// The origins that the form of a page leads to.
    fn form_targets(&self, request: &AuthorizationRequest) -> String {
        let targets: Vec<String> = [&self.issuer, &request.redirect_uri]
            .into_iter()
            .filter_map(|url| Url::parse(url).ok())
            .map(|url| url.origin().ascii_serialization())
            .collect();
        targets.join(" ")
    }

    pub(super) fn authenticate(&self, session_code: &str, answer: Answer<'_>) -> Result<Response, FakeError> {
        let now = self.now();
        let login = self
            .state
            .read(|state| state.logins.get(session_code).filter(|login| now <= login.expires).cloned());
        let Some(mut login) = login else {
            return Ok(pages::error(
                StatusCode::BAD_REQUEST,
                "Your login attempt timed out, or it was finished in another tab. Please sign in again.",
            ));
        };
        let Some(client) = self.realm.client(&login.request.client_id) else {
            return Ok(pages::error(StatusCode::BAD_REQUEST, "Client not found."));
        };
        let again = |login: &PendingLogin, alert: &str| Ok(self.page_for(session_code, login, Some(alert)));
        let user = match (login.user, answer) {
            (None, Answer::Person(name)) => {
                let only = login.session.as_ref().map(|(_, user)| *user);
                self.state.read(|state| {
                    let user = state.directory.user_by_name(name);
                    user.filter(|user| user.service_account_client_id.is_none())
                        .filter(|user| only.is_none_or(|only| only == user.id))
                        .cloned()
                })
            }
            (Some(id), Answer::Code(code)) => {
                let secret = login.new_secret.clone();
                let taken = self.state.update(|state| {
                    let user = state.directory.users.iter_mut().find(|user| user.id == id)?;
                    let secret = secret.or_else(|| user.otp_secret.clone())?;
                    let taken = user.takes_code(&secret, code, now);
                    if taken {
                        user.otp_secret = Some(secret);
                    }
                    Some((taken, user.clone()))
                })?;
                match taken {
                    Some((true, user)) => Some(user),
                    Some((false, _)) => return again(&login, "Invalid authenticator code."),
                    None => None,
                }
            }
            (Some(_), Answer::Person(_)) => return again(&login, "Invalid authenticator code."),
            (None, Answer::Code(_)) => None,
        };
        let Some(user) = user else {
            return again(&login, "There is nobody of that name here.");
        };
        if !user.enabled {
            return again(&login, "Account is disabled, contact your administrator.");
        }
        let proven = if login.user.is_some() { ONE_TIME_CODE } else { 1 };
        if proven < login.request.level {
            login.user = Some(user.id);
            login.new_secret = self.new_secret(user.id);
            let page = self.page_for(session_code, &login, None);
            self.state.update(|state| state.logins.insert(session_code.to_owned(), login))?;
            return Ok(page);
        }
        let session = self.prove(&login, client, user.id, proven)?;
        let response = self.finish(&login.request, client, Some(&(session, user.id)), user.id)?;
        self.state.update(|state| state.logins.remove(session_code))?;
        Ok(response)
    }

    /// Notes what the person has just proven, in the session that the login goes on with or in a new one.
    fn prove(
        &self,
        login: &PendingLogin,
        client: &Client,
        user: Uuid,
        level: u8,
    ) -> Result<String, FakeError> {
        let now = self.now();
        let going_on = login.session.as_ref().map(|(id, _)| id).filter(|id| self.session_user(id).is_some());
        let session = match going_on {
            Some(id) => id.clone(),
            None => self.start_session(user, &client.id)?,
        };
        self.state.update(|state| {
            let Some(known) = state.sessions.get_mut(&session) else { return };
            known.authenticated = now;
            known.last_used = now;
            known.levels.insert(level, now);
        })?;
        Ok(session)
    }

    /// Sends the browser back with a code.
    fn finish(
        &self,
        request: &AuthorizationRequest,
        client: &Client,
        session: Option<&(String, Uuid)>,
        user: Uuid,
    ) -> Result<Response, FakeError> {
        let (session, _) = session.ok_or(FakeError::UnknownSession)?;
        let code = self.secret_id();
        let full_code = format!("{code}.{session}.{}", client.id);
        let mut response = self.send_back(request, &[], &[("session_state", session), ("code", &full_code)]);
        let cookie = cookie_name(request).and_then(|name| {
            let realm = &self.realm.name;
            let cookie = format!("{name}={session}; Path=/realms/{realm}/; HttpOnly; SameSite=Lax");
            HeaderValue::from_str(&cookie).ok()
        });
        if let Some(cookie) = cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        let expires = self.now() + self.realm.access_code_lifespan;
        let details = json!({
            "auth_method": "openid-connect", "auth_type": "code", "response_type": "code",
            "redirect_uri": request.redirect_uri, "consent": "no_consent_required", "code_id": session,
        });
        let event = self.user_event("LOGIN", &request.client_id, user, Some(session), details);
        self.state.update(|state| {
            if let Some(known) = state.sessions.get_mut(session) {
                known.clients.entry(client.id.clone()).or_insert_with(ClientSession::default);
            }
            let request = request.clone();
            state.codes.insert(code, Code { session: session.clone(), expires, request });
            state.keep_event(event);
        })?;
        Ok(response)
    }

    /// The redirect that answers an authorization request, in the order of the real one: error, state, the rest.
    pub(super) fn send_back(
        &self,
        request: &AuthorizationRequest,
        before: &[(&str, &str)],
        after: &[(&str, &str)],
    ) -> Response {
        let Ok(mut url) = Url::parse(&request.redirect_uri) else {
            return pages::error(StatusCode::BAD_REQUEST, "Invalid parameter: redirect_uri");
        };
        let mut answer = form_urlencoded::Serializer::new(String::new());
        answer.extend_pairs(before);
        answer.extend_pairs(request.state.as_deref().map(|state| ("state", state)));
        let (session_state, code): (Vec<_>, Vec<_>) =
            after.iter().copied().partition(|(name, _)| *name != "code");
        answer.extend_pairs(session_state).append_pair("iss", &self.issuer).extend_pairs(code);
        let answer = answer.finish();
        if request.fragment {
            url.set_fragment(Some(&answer));
        } else {
            let query = url.query().map_or_else(|| answer.clone(), |query| format!("{query}&{answer}"));
            url.set_query(Some(&query));
        }
        redirect(url.as_str())
    }
}

/// What is wrong with the PKCE part of an authorization request (RFC 7636, section 4.4.1).
fn check_challenge(client: &Client, request: &AuthorizationRequest) -> Result<(), &'static str> {
    let required = client.attributes.get("pkce.code.challenge.method").filter(|method| !method.is_empty());
    let method = request.code_challenge_method.as_ref();
    if required.is_some() && method.is_none() {
        return Err("Missing parameter: code_challenge_method");
    }
    if required.is_some() && required != method {
        return Err("Invalid parameter: code challenge method is not matching the configured one");
    }
    if !matches!(method.map(String::as_str), None | Some("S256" | "plain")) {
        return Err("Invalid parameter: code_challenge_method");
    }
    match &request.code_challenge {
        None if method.is_some() => Err("Missing parameter: code_challenge"),
        Some(challenge) if !is_pkce_value(challenge) => Err("Invalid parameter: code_challenge"),
        _ => Ok(()),
    }
}

/// 43 to 128 unreserved characters (RFC 7636, section 4.1).
pub(super) fn is_pkce_value(value: &str) -> bool {
    (43..=128).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// What comes next for a browser.
enum Next {
    /// The page to say who one is.
    Person,
    /// The page for a one-time code of this user.
    Code(Uuid),
    /// Back to where it came from, as this user.
    Back(Uuid),
}

/// The cookie of a session, which counts for the one host to which the browser goes back.
fn cookie_name(request: &AuthorizationRequest) -> Option<String> {
    let host = Url::parse(&request.redirect_uri).ok()?.origin().ascii_serialization();
    Some(format!("KEYCLOAK_IDENTITY_{}", keys::half_hash(&host)))
}

impl FakeKeycloak {
    /// What the sign-in page says about somebody: what they are, and where.
    fn about(&self, paths: &[String], user: &UserRecord) -> String {
        let mut about: Vec<String> = paths
            .iter()
            .map(|path| {
                let tenant =
                    path.strip_prefix(ORGANIZATION_PREFIX).or_else(|| path.strip_prefix(TEAM_PREFIX));
                match tenant.and_then(|tenant| tenant.split_once('/')) {
                    Some((tenant, role)) => format!("{} of {tenant}", role.strip_suffix('s').unwrap_or(role)),
                    None => path.trim_start_matches('/').to_owned(),
                }
            })
            .collect();
        for client in &self.realm.clients {
            about.extend(self.realm.effective_client_roles(user, &client.client_id));
        }
        if !user.enabled {
            about.push("disabled".to_owned());
        }
        if about.is_empty() {
            user.username.clone()
        } else {
            format!("{} · {}", user.username, about.join(", "))
        }
    }
}
