//! The modules that administrators add: a tenant's own, and those that the suite gives to its tenants.

use axum::{extract::State, http::StatusCode};
use futures::future::join_all;
use shell_ui::{
    FieldErrors, IconChoice, ModuleRow, RoleChoice, Ui,
    pages::{ModuleFormPage, ModulesPage},
};
use url::Url;

use super::{
    PageResult,
    chrome::{FlashQuery, Place},
    form::PageForm,
    health::verdict,
    modules::tools,
    page,
};
use crate::{
    app::AppState,
    auth::{Permission, Role},
    db::TenantTx,
    http::{
        Problem, ProblemResult,
        etag::IfMatch,
        extract::{ApiPath, ApiQuery},
    },
    ids::{ModuleId, TenantId},
    modules::{
        self, ChangeModule, ICONS, MAX_NAME, Module, ModuleError, ModuleFault, NewModule, Opens, is_framed,
    },
    sources,
};

const MODULE: &str = "modules";

/// The paths of tenants, for who runs the suite; a UUID where there is none any more.
async fn paths(state: &AppState, tenants: &[TenantId]) -> ProblemResult<Vec<String>> {
    if tenants.is_empty() {
        return Ok(Vec::new());
    }
    let found = sources::tenant_paths(&state.database, tenants).await?;
    let path = |tenant: &TenantId| found.get(tenant).cloned().unwrap_or_else(|| tenant.to_string());
    Ok(tenants.iter().map(path).collect())
}

fn row(state: &AppState, module: Module, may_change: bool) -> ModuleRow {
    let embedded = Url::parse(&module.url).is_ok_and(|url| is_framed(&state.config, module.opens, &url));
    ModuleRow {
        id: may_change.then(|| module.id.to_string()),
        embedded,
        name: module.name,
        icon: module.icon,
        url: module.url,
        roles: module.roles.iter().map(|role| state.ui.role(role.as_str())).collect(),
        tenants: Vec::new(),
        health: None,
    }
}

/// The modules of a tenant, those that the suite gives it, and the tools of the settings.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    place.require(Permission::ModuleManage)?;
    let is_suite = place.tenant.id == TenantId::SUITE;
    let report = state.doctor.report(&state.config, &state.clock).await;
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, query.flash.as_deref()).await?;
    let managed = modules::list(&mut tx, Some(place.tenant.id)).await.map_err(modules::problem)?;
    let mut of_suite = Vec::new();
    if !is_suite {
        let seen = modules::shown(&mut tx, &place.visitor, place.tenant.id).await?;
        let given = seen.into_iter().filter(|module| module.tenant_id == TenantId::SUITE);
        of_suite.extend(given.map(|module| row(&state, module, false)));
    }
    let checked = state.ui.time(report.checked_at, tx.now());
    drop(tx);
    let mut own = Vec::with_capacity(managed.len());
    for module in managed {
        let given = paths(&state, &module.tenants).await?;
        own.push(ModuleRow { tenants: given, ..row(&state, module, true) });
    }
    if is_suite {
        let looks = own.iter().map(|row| async {
            match Url::parse(&row.url) {
                Ok(url) => Some(verdict(state.doctor.address(&url, &state.clock).await)),
                Err(_) => None,
            }
        });
        let looked: Vec<_> = join_all(looks).await;
        for (row, health) in own.iter_mut().zip(looked) {
            row.health = health;
        }
    }
    let seen =
        |id: &str| report.checks.iter().find(|check| check.name == id).map(|check| verdict(check.verdict));
    let tools = tools(&state).map(|tool| {
        let (url, embedded) = tool.opened.map_or((String::new(), false), |(url, embed)| (url.into(), embed));
        ModuleRow {
            id: None,
            health: seen(tool.id),
            name: tool.name,
            icon: tool.icon.to_owned(),
            url,
            embedded,
            roles: Vec::new(),
            tenants: Vec::new(),
        }
    });
    let shown = ModulesPage {
        chrome,
        is_suite,
        own,
        of_suite,
        tools: tools.collect(),
        checked,
        health_href: place.may(Permission::HealthRead).then(|| place.href("health")),
    };
    page(StatusCode::OK, &shown)
}

/// What the form has in it.
struct Form {
    module: Option<(ModuleId, i64)>,
    name: String,
    url: String,
    icon: String,
    opens: Opens,
    roles: Vec<Role>,
    tenants: Vec<String>,
    errors: FieldErrors,
}

impl Form {
    fn sent(module: Option<(ModuleId, i64)>, sent: &PageForm) -> Self {
        let roles = Role::ALL.into_iter();
        Self {
            module,
            name: sent.text("name").trim().to_owned(),
            url: sent.text("url").trim().to_owned(),
            icon: sent.text("icon"),
            opens: if sent.text("opens") == Opens::Page.as_str() { Opens::Page } else { Opens::Tab },
            roles: roles.filter(|role| sent.is_checked(&format!("role.{}", role.as_str()))).collect(),
            tenants: sent
                .text("tenants")
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect(),
            errors: FieldErrors::default(),
        }
    }

    /// The same with what is wrong, in words.
    fn refused(mut self, ui: &Ui, faults: &[ModuleFault]) -> Self {
        for fault in faults {
            let (field, text) = match fault {
                ModuleFault::Name if self.name.is_empty() => ("name", ui.t("error-required")),
                ModuleFault::Name if self.name.chars().any(char::is_control) => {
                    ("name", ui.t("error-characters"))
                }
                ModuleFault::Name => ("name", ui.too_long(u64::try_from(MAX_NAME).unwrap_or(u64::MAX))),
                ModuleFault::Icon => ("icon", ui.t("error-required")),
                ModuleFault::Url if self.url.is_empty() => ("url", ui.t("error-required")),
                ModuleFault::Url => ("url", ui.t("error-module-url")),
                ModuleFault::UserInfo => ("url", ui.t("error-url-user")),
                ModuleFault::OwnAddress => ("url", ui.t("error-module-own-address")),
                ModuleFault::Ipv6 => ("url", ui.t("error-module-ipv6")),
                ModuleFault::NotGiven | ModuleFault::TooManyTenants => {
                    ("tenants", ui.t("error-module-tenants"))
                }
                ModuleFault::Tenant(index) => {
                    let named = self.tenants.get(*index).map_or("", String::as_str);
                    ("tenants", ui.t_with("error-module-tenant", "tenant", named))
                }
            };
            if self.errors.of(field).is_none() {
                self.errors = self.errors.with(field, text);
            }
        }
        self
    }
}

async fn render_form(
    state: &AppState,
    place: &Place,
    status: StatusCode,
    flash: Option<&str>,
    form: Form,
) -> PageResult {
    place.require(Permission::ModuleManage)?;
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, flash).await?;
    let icon = |icon: &str| IconChoice {
        value: icon.to_owned(),
        label: ui.t(format!("icon-{icon}")),
        chosen: form.icon == icon,
    };
    // Everybody is a member.
    let roles = Role::ALL.into_iter().filter(|role| *role != Role::Member);
    let role = |role: Role| RoleChoice {
        value: role.as_str().to_owned(),
        label: ui.role(role.as_str()),
        chosen: form.roles.contains(&role),
    };
    let shown = ModuleFormPage {
        chrome,
        module: form.module.map(|(id, version)| (id.to_string(), u64::try_from(version).unwrap_or(0))),
        is_suite: place.tenant.id == TenantId::SUITE,
        icons: ICONS.into_iter().map(icon).collect(),
        embedded: form.opens == Opens::Page,
        roles: roles.map(role).collect(),
        name: form.name,
        url: form.url,
        tenants: form.tenants.join("\n"),
        errors: form.errors,
    };
    page(status, &shown)
}

/// The form for a new module.
pub(super) async fn new(State(state): State<AppState>, place: Place) -> PageResult {
    let form = Form {
        module: None,
        name: String::new(),
        url: String::new(),
        icon: ICONS[0].to_owned(),
        opens: Opens::Tab,
        roles: Vec::new(),
        tenants: Vec::new(),
        errors: FieldErrors::default(),
    };
    render_form(&state, &place, StatusCode::OK, None, form).await
}

/// Adds a module.
pub(super) async fn create(State(state): State<AppState>, place: Place, sent: PageForm) -> PageResult {
    place.require(Permission::ModuleManage)?;
    let form = Form::sent(None, &sent);
    let new = NewModule {
        name: form.name.clone(),
        icon: form.icon.clone(),
        url: form.url.clone(),
        opens: form.opens,
        roles: form.roles.clone(),
        tenants: form.tenants.clone(),
    };
    let mut tx = place.begin(&state).await?;
    match modules::create(&mut tx, &state, place.tenant.id, &new).await {
        Ok(_) => {
            tx.commit().await?;
            Ok(place.see_other(MODULE, "module-added"))
        }
        Err(ModuleError::Invalid(faults)) => {
            drop(tx);
            let form = form.refused(&state.ui, &faults);
            render_form(&state, &place, StatusCode::UNPROCESSABLE_ENTITY, None, form).await
        }
        Err(ModuleError::TooMany) => {
            drop(tx);
            render_form(&state, &place, StatusCode::CONFLICT, Some("modules-full"), form).await
        }
        Err(error) => Err(modules::problem(error)),
    }
}

async fn find(place: &Place, tx: &mut TenantTx, id: ModuleId) -> ProblemResult<Module> {
    let found = modules::find(tx, id).await.map_err(modules::problem)?;
    // The path names the tenant: a module of another one isn't here, even where the visitor is in both.
    if found.tenant_id == place.tenant.id { Ok(found) } else { Err(Problem::not_found()) }
}

/// The form for a module as it is.
pub(super) async fn edit(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ModuleId)>,
) -> PageResult {
    place.require(Permission::ModuleManage)?;
    edit_again(&state, &place, id, StatusCode::OK, None).await
}

async fn edit_again(
    state: &AppState,
    place: &Place,
    id: ModuleId,
    status: StatusCode,
    flash: Option<&str>,
) -> PageResult {
    let mut tx = place.begin(state).await?;
    let found = find(place, &mut tx, id).await?;
    drop(tx);
    let form = Form {
        module: Some((id, found.version)),
        tenants: paths(state, &found.tenants).await?,
        name: found.name,
        url: found.url,
        icon: found.icon,
        opens: found.opens,
        roles: found.roles,
        errors: FieldErrors::default(),
    };
    render_form(state, place, status, flash, form).await
}

/// Changes a module.
pub(super) async fn save(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ModuleId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::ModuleManage)?;
    let version = sent.version()?;
    let form = Form::sent(Some((id, version)), &sent);
    let change = ChangeModule {
        name: Some(form.name.clone()),
        icon: Some(form.icon.clone()),
        url: Some(form.url.clone()),
        opens: Some(form.opens),
        roles: Some(form.roles.clone()),
        tenants: Some(form.tenants.clone()),
    };
    let mut tx = place.begin(&state).await?;
    find(&place, &mut tx, id).await?;
    match modules::change(&mut tx, &state, id, &change, &IfMatch::OneOf(vec![version])).await {
        Ok(_) => {
            tx.commit().await?;
            Ok(place.see_other(MODULE, "module-saved"))
        }
        Err(ModuleError::Invalid(faults)) => {
            drop(tx);
            let form = form.refused(&state.ui, &faults);
            render_form(&state, &place, StatusCode::UNPROCESSABLE_ENTITY, None, form).await
        }
        Err(ModuleError::Stale) => {
            drop(tx);
            edit_again(&state, &place, id, StatusCode::PRECONDITION_FAILED, Some("stale")).await
        }
        Err(error) => Err(modules::problem(error)),
    }
}

/// Removes a module.
pub(super) async fn delete(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ModuleId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::ModuleManage)?;
    let version = sent.version()?;
    let mut tx = place.begin(&state).await?;
    find(&place, &mut tx, id).await?;
    match modules::remove(&mut tx, id, &IfMatch::OneOf(vec![version])).await {
        Ok(()) => {
            tx.commit().await?;
            Ok(place.see_other(MODULE, "module-removed"))
        }
        Err(ModuleError::Stale) => {
            drop(tx);
            edit_again(&state, &place, id, StatusCode::PRECONDITION_FAILED, Some("stale")).await
        }
        Err(error) => Err(modules::problem(error)),
    }
}
