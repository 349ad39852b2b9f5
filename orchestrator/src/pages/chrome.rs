//! Who looks, at which tenant, in which frame.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
    response::{IntoResponse as _, Redirect, Response},
};
use shell_ui::{Chrome, Flash, Live, TenantLink};

use super::modules::{self, Counts};
use crate::{
    app::AppState,
    approvals::{self, PendingCounts},
    auth::{Permission, Principal, Resource, TenantKind, TenantRef, Visitor, can},
    db::TenantTx,
    http::{Problem, ProblemResult},
    ids::{TenantId, UserId},
    inbox,
    modules::{self as added, Module as Added},
    realtime,
};

/// The query of a page that a form led to.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct FlashQuery {
    /// A code of [`Flash::from_code`].
    pub flash: Option<String>,
}

/// A visitor in the tenant that the path names.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub visitor: Visitor,
    pub tenant: TenantRef,
}

impl FromRequestParts<AppState> for Place {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, state).await?;
        let parameters = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::not_found().into_response())?;
        let named = parameters.iter().find(|(name, _)| *name == "tenant").map_or("", |(_, value)| value);
        let id = named.parse::<TenantId>().ok();
        if id == Some(TenantId::SUITE) && visitor.platform_admin {
            return Ok(Self { tenant: suite(state), visitor });
        }
        let Some(grant) = id.and_then(|id| visitor.grant(id)) else {
            state.refusals.note(&visitor.principal(), named);
            return Err(Problem::not_found().into_response());
        };
        let tenant = grant.tenant.clone();
        Ok(Self { visitor, tenant })
    }
}

impl Place {
    /// The address of a page of this tenant; `path` is what follows `/app/t/{tenant}/`.
    pub fn href(&self, path: &str) -> String {
        format!("{}/{path}", base(self.tenant.id))
    }

    /// Forgets what was kept of a form: it has been sent. Where it stays, it is shown nowhere any more.
    pub async fn forget_draft(&self, state: &AppState) {
        if self.visitor.session.draft.is_some() {
            let _ = state.sessions.update(self.visitor.key, |session| session.draft = None).await;
        }
    }

    /// Whether the visitor may do this in the tenant.
    pub fn may(&self, permission: Permission) -> bool {
        can(&self.visitor, permission, &Resource::of(self.tenant.id)).is_allowed()
    }

    /// 403 unless the visitor may do this in the tenant.
    pub fn require(&self, permission: Permission) -> ProblemResult<()> {
        self.visitor.require(can(&self.visitor, permission, &Resource::of(self.tenant.id)))
    }

    /// Whether the visitor takes part in something.
    pub fn is(&self, user: UserId) -> bool {
        self.visitor.id == user
    }

    /// A transaction for the visitor.
    pub async fn begin(&self, state: &AppState) -> ProblemResult<TenantTx> {
        Ok(state.database.tenant_tx(self.visitor.principal()).await?)
    }

    /// The frame of a page of `module`. Read it before what the page shows: what happens in between is then told as news.
    pub async fn chrome(
        &self,
        state: &AppState,
        tx: &mut TenantTx,
        module: &str,
        flash: Option<&str>,
    ) -> ProblemResult<Chrome> {
        let is_suite = self.tenant.id == TenantId::SUITE;
        if !is_suite && self.visitor.session.last_tenant != Some(self.tenant.id) {
            state.sessions.remember_tenant(self.visitor.key, self.tenant.id).await;
        }
        let position = realtime::position(tx, self.tenant.id).await?;
        let mut waiting = PendingCounts::default();
        if self.may(Permission::ApprovalDecide) {
            waiting = approvals::pending_counts(tx, self.tenant.id, self.visitor.id).await?;
        }
        let mut counts = Counts { waiting: waiting.of_others, dead: 0 };
        if self.may(Permission::WebhookEventRead) {
            counts.dead = inbox::dead_count(tx, self.tenant.id).await?;
        }
        let added = added::shown(tx, &self.visitor, self.tenant.id).await?;
        let mut chrome = frame(state, &self.visitor, &self.tenant, module, counts, &added);
        chrome.live =
            Some(Live { events_url: self.href("events"), last_event_id: u64::try_from(position).ok() });
        chrome.flash = flash.and_then(|code| Flash::from_code(&state.ui, code));
        Ok(chrome)
    }

    /// Leads on after a form was sent.
    pub fn see_other(&self, path: &str, flash: &str) -> Response {
        Redirect::to(&format!("{}?flash={flash}", self.href(path))).into_response()
    }
}

/// The path below which a tenant's pages are.
pub(super) fn base(tenant: TenantId) -> String {
    format!("/app/t/{tenant}")
}

/// The frame without what only the database knows.
pub(super) fn frame(
    state: &AppState,
    principal: &Principal,
    tenant: &TenantRef,
    module: &str,
    counts: Counts,
    added: &[Added],
) -> Chrome {
    let suite = principal.platform_admin.then(|| suite(state));
    Chrome {
        ui: state.ui.clone(),
        user_name: principal.name.clone(),
        profile_href: "/app/me".to_owned(),
        tenant: tenant_link(state, principal, tenant, module),
        tenants: principal
            .grants
            .iter()
            .map(|grant| &grant.tenant)
            .chain(suite.as_ref())
            .map(|tenant| tenant_link(state, principal, tenant, module))
            .collect(),
        modules: modules::links(state, principal, tenant, module, counts, added),
        live: None,
        flash: None,
    }
}

/// What belongs to the suite as a whole, as who runs it sees it.
fn suite(state: &AppState) -> TenantRef {
    TenantRef {
        id: TenantId::SUITE,
        kind: TenantKind::Organization,
        path: "/suite".to_owned(),
        name: state.ui.t("suite"),
    }
}

/// Switching tenants keeps the module, where one sees it there.
fn tenant_link(state: &AppState, principal: &Principal, tenant: &TenantRef, module: &str) -> TenantLink {
    if tenant.id == TenantId::SUITE {
        return TenantLink {
            id: tenant.id.to_string(),
            name: tenant.name.clone(),
            kind: shell_ui::TenantKind::Suite,
            href: format!("{}/inbox", base(tenant.id)),
        };
    }
    TenantLink {
        id: tenant.id.to_string(),
        name: tenant_name(principal, tenant),
        kind: kind(tenant.kind),
        href: modules::shell_href(state, principal, tenant, module).unwrap_or_else(|| base(tenant.id)),
    }
}

/// What a tenant is called: one's own, as oneself, since its kind is said beside it.
pub(super) fn tenant_name(principal: &Principal, tenant: &TenantRef) -> String {
    match tenant.kind {
        TenantKind::Individual => principal.name.clone(),
        TenantKind::Team | TenantKind::Organization => tenant.name.clone(),
    }
}

pub(super) fn kind(kind: TenantKind) -> shell_ui::TenantKind {
    match kind {
        TenantKind::Individual => shell_ui::TenantKind::Personal,
        TenantKind::Team => shell_ui::TenantKind::Team,
        TenantKind::Organization => shell_ui::TenantKind::Organization,
    }
}

/// The tenant that a page without one is about: the last, else a team or an organization, else the person's own.
pub(super) fn home(principal: &Principal, last: Option<TenantId>) -> Option<&TenantRef> {
    let last = last.and_then(|tenant| principal.grant(tenant));
    let shared = || principal.grants.iter().find(|grant| grant.tenant.kind != TenantKind::Individual);
    last.or_else(shared).or_else(|| principal.grants.first()).map(|grant| &grant.tenant)
}
