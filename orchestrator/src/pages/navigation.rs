//! What somebody finds in our sidebar, for the launchers of other tools: Univention's central navigation
//! (docs.software-univention.de, Nubus for Kubernetes, "Central Navigation API").
//!
//! Who asks proves it by an access token, by the session of the browser, or, as the servers of tools do it, by HTTP Basic (RFC 7617) with
//! a person's user name and the secret that is the tool's own. Pages of other origins read it only where `navigation.origins` has
//! them, and first ask [`signed_in`], in a frame, whether somebody is signed in here.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts as _, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use shell_ui::{ModuleKind, ModuleLink, pages::NavigationPage};
use subtle::ConstantTimeEq as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    PageResult,
    chrome::home,
    embedded::FrameAncestor,
    modules::{self, Counts},
    page,
};
use crate::{
    app::AppState,
    auth::{Caller, Principal, PrincipalError, PrincipalSource as _, TenantRef, Visitor},
    http::{Problem, ProblemResult, extract::ApiQuery, middleware::Charge},
    ids::TenantId,
};

/// The operation.
pub fn operations() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(navigation))
}

/// What a launcher shows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Navigation {
    /// Its parts.
    categories: Vec<Category>,
}

/// A part of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Category {
    /// `chancery`, or `tools`.
    identifier: String,
    /// What people call it.
    display_name: String,
    /// What it offers.
    entries: Vec<Entry>,
}

/// Something to open.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Entry {
    /// The id of a module.
    identifier: String,
    /// A picture (SVG).
    icon_url: String,
    /// What people call it.
    display_name: String,
    /// Where it is.
    link: String,
    /// The tab that it opens in, the same each time.
    target: String,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct NavigationQuery {
    /// The tenant, by UUID or path; the one that was looked at last, or a shared one, where left out.
    tenant_id: Option<String>,
    /// Which language is wished for (`de-DE`); there is English.
    #[serde(rename = "language")]
    _language: Option<String>,
    /// Taken since callers send it; links lead to our own address.
    #[serde(rename = "base")]
    _base: Option<String>,
}

/// Who asks, and which tenant they looked at last.
struct Asker {
    principal: Arc<Principal>,
    last_tenant: Option<TenantId>,
}

/// Whose navigation the server of a tool asks for; none where nobody has that name.
async fn asker_by_tool(state: &AppState, parts: &Parts, credentials: &str) -> ProblemResult<Option<Asker>> {
    let charge = Charge::of(parts, state);
    let decoded =
        BASE64_STANDARD.decode(credentials.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    // Nobody has a NUL in a name, and the database takes none.
    let decoded = decoded.filter(|decoded| !decoded.contains('\0'));
    let named = decoded.as_deref().and_then(|decoded| decoded.split_once(':'));
    let caller = named.and_then(|(_, shown)| {
        let is_shown = |secret: &str| bool::from(secret.as_bytes().ct_eq(shown.as_bytes()));
        state.navigation_callers.iter().find(|caller| is_shown(caller.secret.expose_secret()))
    });
    let (Some((username, _)), Some(caller)) = (named, caller) else {
        return Err(charge.for_failure(state, Problem::unauthorised()));
    };
    tracing::debug!(caller = caller.name, "a tool asks for somebody's navigation");
    let Some(user) = state.directory.person_named(username).await? else { return Ok(None) };
    charge.to(state.limits.principal.take(&user))?;
    match state.directory.principal(user).await {
        Ok(principal) => Ok(Some(Asker { principal, last_tenant: None })),
        Err(PrincipalError::Unknown) => Ok(None),
        Err(error @ PrincipalError::Unavailable(_)) => Err(Problem::unavailable(&error)),
    }
}

/// Who asks, by whatever they show; none where a tool asks for somebody whom nobody knows.
async fn asker(state: &AppState, parts: &mut Parts) -> Result<Option<Asker>, Response> {
    let shown =
        parts.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default().to_owned());
    let Some(shown) = shown else {
        return match Visitor::from_request_parts(parts, state).await {
            Ok(visitor) => {
                Ok(Some(Asker { principal: visitor.principal(), last_tenant: visitor.session.last_tenant }))
            }
            // To the page where one signs in, which is of no use to a script.
            Err(answer) if answer.status().is_redirection() => Err(Problem::unauthorised().into_response()),
            Err(answer) => Err(answer),
        };
    };
    match shown.split_once(' ') {
        Some((scheme, credentials)) if scheme.eq_ignore_ascii_case("basic") => {
            asker_by_tool(state, parts, credentials).await.map_err(Problem::into_response)
        }
        _ => {
            let caller = Caller::from_request_parts(parts, state).await.map_err(Problem::into_response)?;
            Ok(Some(Asker { principal: caller.principal(), last_tenant: None }))
        }
    }
}

fn entry(state: &AppState, module: ModuleLink) -> Option<Entry> {
    let absolute = |href: &str| state.config.http.public_url.join(href).ok().map(String::from);
    Some(Entry {
        icon_url: absolute(&state.ui.asset(&format!("icon-{}.svg", module.icon)))?,
        display_name: module.name,
        link: absolute(&module.href)?,
        target: match module.kind {
            ModuleKind::Page => "chancery".to_owned(),
            ModuleKind::Embedded | ModuleKind::Link => format!("chancery-{}", module.id),
        },
        identifier: module.id,
    })
}

fn category(identifier: &str, display_name: String, entries: Vec<Entry>) -> Option<Category> {
    (!entries.is_empty()).then(|| Category { identifier: identifier.to_owned(), display_name, entries })
}

async fn of_tenant(
    state: &AppState,
    principal: Arc<Principal>,
    tenant: &TenantRef,
) -> ProblemResult<Navigation> {
    let mut tx = state.database.tenant_tx(Arc::clone(&principal)).await?;
    let added = crate::modules::shown(&mut tx, &principal, tenant.id).await?;
    drop(tx);
    let links = modules::links(state, &principal, tenant, "", Counts::default(), &added);
    let (pages, tools): (Vec<_>, Vec<_>) =
        links.into_iter().partition(|module| module.kind == ModuleKind::Page);
    let entries =
        |modules: Vec<ModuleLink>| modules.into_iter().filter_map(|module| entry(state, module)).collect();
    let categories = [
        category("chancery", state.ui.t("product"), entries(pages)),
        category("tools", state.ui.t("tools"), entries(tools)),
    ];
    Ok(Navigation { categories: categories.into_iter().flatten().collect() })
}

/// The tenant that is asked for, if the person is in it.
fn tenant_of<'a>(
    state: &AppState,
    asker: &'a Asker,
    named: Option<&str>,
) -> ProblemResult<Option<&'a TenantRef>> {
    let Some(named) = named else { return Ok(home(&asker.principal, asker.last_tenant)) };
    let found = asker.principal.tenant(named);
    if found.is_none() {
        state.refusals.note(&asker.principal, named);
        return Err(Problem::not_found());
    }
    Ok(found)
}

/// What the caller finds in the sidebar of a tenant, for the launcher of another tool (Univention's central navigation). Besides access
/// tokens it takes the session of the browser, and HTTP Basic with a person's user name and the secret of a tool of `navigation.callers`.
#[utoipa::path(
    get, path = "/navigation", operation_id = "getNavigation", tag = "navigation", params(NavigationQuery), security(("bearer" = [])),
    responses((status = 200, body = Navigation), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn navigation(
    State(state): State<AppState>,
    mut parts: Parts,
    ApiQuery(query): ApiQuery<NavigationQuery>,
) -> Response {
    let answered = async {
        let navigation = match asker(&state, &mut parts).await? {
            None => Navigation { categories: Vec::new() },
            Some(asker) => match tenant_of(&state, &asker, query.tenant_id.as_deref()) {
                Ok(None) => Navigation { categories: Vec::new() },
                Ok(Some(tenant)) => of_tenant(&state, Arc::clone(&asker.principal), tenant)
                    .await
                    .map_err(Problem::into_response)?,
                Err(problem) => return Err(problem.into_response()),
            },
        };
        let mut response = Json(navigation).into_response();
        response.headers_mut().insert(header::CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        Ok::<_, Response>(response)
    };
    let mut response = answered.await.unwrap_or_else(|refused| refused);
    allow_origin(&state.config.navigation.origins, &parts.headers, &mut response);
    response
}

/// Lets the pages of these origins read an answer (Fetch Standard, section 3.3: CORS), and nobody else's.
fn allow_origin(origins: &[String], asked: &HeaderMap, response: &mut Response) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin, Authorization, Cookie"));
    let Some(origin) = asked.get(header::ORIGIN) else { return };
    if origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// Tells the tool that frames it, by a message that only `navigation.origins` get, whether somebody is signed in here: `{ loggedIn }`.
pub(super) async fn signed_in(State(state): State<AppState>, headers: HeaderMap) -> PageResult {
    let origins = &state.config.navigation.origins;
    if origins.is_empty() {
        return Err(Problem::not_found());
    }
    let origins = origins.join(" ");
    let is_signed_in = state.sessions.find(&headers, false).await?.is_some();
    let shown = NavigationPage { ui: state.ui.clone(), origins: origins.clone(), is_signed_in };
    let mut response = page(StatusCode::OK, &shown)?;
    response.extensions_mut().insert(FrameAncestor(origins));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_the_origins_of_the_settings_may_read_it() {
        let origins = ["https://element.example.org".to_owned()];
        let allowed = |origin: Option<&'static str>| {
            let mut asked = HeaderMap::new();
            if let Some(origin) = origin {
                asked.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            let mut response = Response::new(Body::empty());
            allow_origin(&origins, &asked, &mut response);
            let of = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            (of(header::ACCESS_CONTROL_ALLOW_ORIGIN), of(header::ACCESS_CONTROL_ALLOW_CREDENTIALS))
        };
        let element = Some("https://element.example.org".to_owned());
        assert_eq!(allowed(Some("https://element.example.org")), (element, Some("true".to_owned())));
        for refused in [
            None,
            Some("null"),
            Some("https://element.example.org.evil.example"),
            Some("http://element.example.org"),
        ] {
            assert_eq!(allowed(refused), (None, None), "{refused:?}");
        }
    }
}
