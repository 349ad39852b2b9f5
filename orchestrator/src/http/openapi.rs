//! The API's description (OpenAPI 3.1), generated from the handlers.

use utoipa::openapi::{
    Info, License, OpenApi, OpenApiBuilder, Server,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::AppState, approvals, audit, consultations, conversations, endpoints, http::router, inbox, modules,
    pages, sign_ins, sources, tenants,
};

/// The operations of the API, but for [`inbox::receiving`], with the description of all.
pub fn api() -> OpenApiRouter<AppState> {
    let mut info = Info::new("Chancery", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Approvals, the audit trail, consultations, webhook fan-in and outgoing webhooks of a suite of open-source tools.\n\n\
         Errors are RFC 9457 problems with a stable `code`. Lists are paged by an opaque `cursor`. A stranger's id and one that \
         doesn't exist get the same answer. Answers say in `RateLimit` and `RateLimit-Policy` how much more may be asked; a 429 says \
         in `Retry-After` when to come back. The same operations are under `/api`."
            .to_owned(),
    );
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    info.license = Some(license);
    let mut components = utoipa::openapi::Components::new();
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .bearer_format("JWT")
                .description(Some("An access token of Keycloak for the audience `chancery-api`"))
                .build(),
        ),
    );
    let base = OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/api/v1")]))
        .components(Some(components))
        .build();
    let base = base.merge_from(inbox::described().into_openapi());
    OpenApiRouter::with_openapi(base)
        .merge(approvals::router())
        .merge(audit::router())
        .merge(consultations::router())
        .merge(conversations::router())
        .merge(endpoints::router())
        .merge(inbox::router())
        .merge(modules::router())
        .merge(sources::router())
        .merge(sign_ins::router())
        .merge(tenants::router())
        .merge(pages::navigation_operations())
        .merge(router::operations())
}

/// The description alone.
pub fn document() -> OpenApi {
    api().into_openapi()
}

/// The description as committed and served.
///
/// # Errors
/// Never in practice: the description is plain data.
pub fn json() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&document())?;
    text.push('\n');
    Ok(text)
}
