//! The authorization endpoint and the page on which one picks a person.

use axum::{http::StatusCode, response::Response};
use url::{Url, form_urlencoded};

use super::{
    AuthorizationRequest, Code, FakeError, FakeKeycloak, PendingLogin, broken,
    oidc::{Parameters, redirect},
    pages,
    realm::{Client, Realm, UserRecord},
    step_up,
};

const ORGANIZATION_PREFIX: &str = "/organizations/";
const TEAM_PREFIX: &str = "/teams/";

impl FakeKeycloak {
    pub(super) fn authorize(&self, realm: &str, parameters: &Parameters) -> Response {
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
        let level = match step_up::asked_for(&self.realm, client, parameters) {
            Ok(level) => level,
            Err(refusal) => return pages::error(StatusCode::BAD_REQUEST, refusal),
        };
        let request = AuthorizationRequest {
            level,
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
        if parameters.get("prompt").is_some_and(|prompt| prompt.split_whitespace().any(|word| word == "none"))
        {
            return refuse("login_required", None);
        }
        let session_code = self.secret_id();
        let page = self.login_page(&session_code, &request, None);
        let expires = self.now() + self.realm.access_code_lifespan_login;
        let now = self.now();
        let kept = self.state.update(|state| {
            state.forget_what_expired(now, &self.realm);
            state.logins.insert(session_code, PendingLogin { expires, request, user: None })
        });
        match kept {
            Ok(_) => page,
            Err(error) => broken(&FakeError::State(error)),
        }
    }

    pub(super) fn login_page(
        &self,
        session_code: &str,
        request: &AuthorizationRequest,
        alert: Option<&str>,
    ) -> Response {
        let hint = request.login_hint.as_deref().map(str::to_lowercase);
        let mut people: Vec<(bool, pages::Person)> = self.state.read(|state| {
            let directory = &state.directory;
            let people = directory.users.iter().filter(|user| user.service_account_client_id.is_none());
            people
                .map(|user| {
                    let hinted = hint.as_ref().is_some_and(|hint| {
                        *hint == user.username || user.email.as_ref().is_some_and(|email| hint == email)
                    });
                    let person = pages::Person {
                        username: user.username.clone(),
                        name: user.full_name().unwrap_or_else(|| user.username.clone()),
                        about: about(&directory.paths(user), user),
                    };
                    (hinted, person)
                })
                .collect()
        });
        people.sort_by_key(|(hinted, _)| !hinted);
        let people: Vec<pages::Person> = people.into_iter().map(|(_, person)| person).collect();
        let (action, target) = self.form_of(session_code, request);
        pages::login(&people, &action, &target, alert)
    }

    /// Where the form of a sign-in page goes, and the origins that it leads to.
    fn form_of(&self, session_code: &str, request: &AuthorizationRequest) -> (String, String) {
        let client_id: String = form_urlencoded::byte_serialize(request.client_id.as_bytes()).collect();
        let action = format!(
            "{}/login-actions/authenticate?session_code={session_code}&client_id={client_id}",
            self.issuer
        );
        let targets: Vec<String> = [&self.issuer, &request.redirect_uri]
            .into_iter()
            .filter_map(|url| Url::parse(url).ok())
            .map(|url| url.origin().ascii_serialization())
            .collect();
        (action, targets.join(" "))
    }

    pub(super) fn authenticate(&self, session_code: &str, form: &Parameters) -> Result<Response, FakeError> {
        let now = self.now();
        let pending = self.state.read(|state| {
            let login = state.logins.get(session_code).filter(|login| now <= login.expires)?;
            Some((login.request.clone(), login.user))
        });
        let Some((request, picked)) = pending else {
            return Ok(pages::error(
                StatusCode::BAD_REQUEST,
                "Your login attempt timed out, or it was finished in another tab. Please sign in again.",
            ));
        };
        let user = self.state.read(|state| {
            let directory = &state.directory;
            let user = match picked {
                Some(picked) => directory.users.iter().find(|user| user.id == picked),
                None => directory.user_by_name(form.get("username").unwrap_or_default()),
            };
            user.filter(|user| user.service_account_client_id.is_none()).cloned()
        });
        let Some(client) = self.realm.client(&request.client_id) else {
            return Ok(pages::error(StatusCode::BAD_REQUEST, "Client not found."));
        };
        let Some(user) = user else {
            return Ok(self.login_page(session_code, &request, Some("There is nobody of that name here.")));
        };
        if !user.enabled {
            let alert = "Account is disabled, contact your administrator.";
            return Ok(self.login_page(session_code, &request, Some(alert)));
        }
        let wanted = request.level.as_ref();
        let wants_more = wanted.is_some_and(|wanted| wanted.value > step_up::password());
        let has_confirmed = picked.is_some() && form.get("confirm").is_some();
        if wants_more && !has_confirmed {
            self.state.update(|state| {
                if let Some(login) = state.logins.get_mut(session_code) {
                    login.user = Some(user.id);
                }
            })?;
            let (action, target) = self.form_of(session_code, &request);
            let name = user.full_name().unwrap_or_else(|| user.username.clone());
            return Ok(pages::confirm(&name, &action, &target));
        }
        let level = if has_confirmed { step_up::CONFIRMED } else { step_up::password() };
        if wanted.is_some_and(|wanted| wanted.essential && wanted.value > level) {
            return Ok(pages::error(StatusCode::BAD_REQUEST, "Authentication requirements not fulfilled"));
        }
        let session = self.start_session(user.id, &client.id, level)?;
        let code = self.secret_id();
        let full_code = format!("{code}.{session}.{}", client.id);
        let response = self.send_back(&request, &[], &[("session_state", &session), ("code", &full_code)]);
        let expires = now + self.realm.access_code_lifespan;
        self.state.update(|state| {
            state.logins.remove(session_code);
            state.codes.insert(code, Code { session, expires, request });
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

/// What the sign-in page says about somebody: what they are, and where.
fn about(paths: &[String], user: &UserRecord) -> String {
    let mut about: Vec<String> = paths
        .iter()
        .map(|path| {
            let tenant = path.strip_prefix(ORGANIZATION_PREFIX).or_else(|| path.strip_prefix(TEAM_PREFIX));
            match tenant.and_then(|tenant| tenant.split_once('/')) {
                Some((tenant, role)) => format!("{} of {tenant}", role.strip_suffix('s').unwrap_or(role)),
                None => path.trim_start_matches('/').to_owned(),
            }
        })
        .collect();
    about.extend(user.client_roles.values().flatten().cloned());
    if !user.enabled {
        about.push("disabled".to_owned());
    }
    if about.is_empty() {
        user.username.clone()
    } else {
        format!("{} · {}", user.username, about.join(", "))
    }
}
