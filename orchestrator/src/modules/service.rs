//! The commands. The caller commits.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use url::Url;

use super::{
    model::{
        ChangeModule, MAX_MODULES, MAX_TENANTS, Module, ModuleFault, NewModule, Opens, check_host,
        check_icon, check_name, check_url, in_order,
    },
    store,
};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::{Decision, Permission, Principal, Resource, can},
    db::{Actor, TenantTx},
    http::etag::IfMatch,
    ids::{ModuleId, TenantId},
    realtime::{self, EventType},
    sources,
};

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Unknown, or a stranger's.
    #[error("there is no such module")]
    NotFound,
    /// None of the roles allows it.
    #[error("no role allows this")]
    Forbidden,
    /// It has changed since it was read.
    #[error("it has changed meanwhile")]
    Stale,
    /// It would make no sense.
    #[error("it would make no sense")]
    Invalid(Vec<ModuleFault>),
    /// There are as many as there may be.
    #[error("there are as many modules as there may be")]
    TooMany,
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

fn manageable(tx: &TenantTx) -> Vec<TenantId> {
    match tx.actor() {
        Actor::Principal(principal) => principal.tenants_with(Permission::ModuleManage),
        Actor::System => Vec::new(),
    }
}

fn require(tx: &TenantTx, tenant: TenantId) -> Result<(), ModuleError> {
    let Actor::Principal(principal) = tx.actor() else { return Err(ModuleError::Forbidden) };
    match can(principal, Permission::ModuleManage, &Resource::of(tenant)) {
        Decision::Allowed => Ok(()),
        Decision::Stranger => Err(ModuleError::NotFound),
        Decision::MissingPermission
        | Decision::OwnRequest
        | Decision::NotOwnRequest
        | Decision::NotInvolved => Err(ModuleError::Forbidden),
    }
}

/// The modules that the transaction's principal manages, by name; of one tenant where it is given.
///
/// # Errors
/// [`ModuleError`].
pub async fn list(tx: &mut TenantTx, tenant: Option<TenantId>) -> Result<Vec<Module>, ModuleError> {
    let tenants = match tenant {
        Some(tenant) => {
            require(tx, tenant)?;
            vec![tenant]
        }
        None => manageable(tx),
    };
    Ok(store::list(tx, &tenants).await?)
}

/// The module with this id, if the transaction's principal manages it.
///
/// # Errors
/// [`ModuleError::NotFound`], [`ModuleError::Database`].
pub async fn find(tx: &mut TenantTx, id: ModuleId) -> Result<Module, ModuleError> {
    let tenants = manageable(tx);
    store::find(tx, &tenants, id).await?.ok_or(ModuleError::NotFound)
}

/// What `principal` sees in the sidebar of a tenant besides what is built in: the tenant's own and what the suite gives it, by name.
///
/// # Errors
/// Where the database can't be asked.
pub async fn shown(
    tx: &mut TenantTx,
    principal: &Principal,
    tenant: TenantId,
) -> Result<Vec<Module>, sqlx::Error> {
    let mut modules = store::shown(tx, tenant).await?;
    modules.retain(|module| module.is_seen_by(principal, tenant));
    Ok(modules)
}

/// The one with this id among what `principal` sees there.
///
/// # Errors
/// Where the database can't be asked.
pub async fn shown_one(
    tx: &mut TenantTx,
    principal: &Principal,
    tenant: TenantId,
    id: ModuleId,
) -> Result<Option<Module>, sqlx::Error> {
    let found = store::find(tx, &[tenant, TenantId::SUITE], id).await?;
    Ok(found.filter(|module| module.is_seen_by(principal, tenant)))
}

/// The tenants that one of the suite's is given to.
async fn given(
    state: &AppState,
    tenant: TenantId,
    named: &[String],
    faults: &mut Vec<ModuleFault>,
) -> Result<Vec<TenantId>, sqlx::Error> {
    if tenant != TenantId::SUITE && !named.is_empty() {
        faults.push(ModuleFault::NotGiven);
        return Ok(Vec::new());
    }
    if named.len() > MAX_TENANTS {
        faults.push(ModuleFault::TooManyTenants);
        return Ok(Vec::new());
    }
    let mut tenants = BTreeSet::new();
    for (index, named) in named.iter().enumerate() {
        let found = sources::named_tenant(&state.database, named).await?;
        match found.filter(|tenant| *tenant != TenantId::SUITE) {
            Some(tenant) => {
                tenants.insert(tenant);
            }
            None => faults.push(ModuleFault::Tenant(index)),
        }
    }
    Ok(tenants.into_iter().collect())
}

/// What a frame of ours may not show.
fn check_framed(state: &AppState, opens: Opens, url: &Url, faults: &mut Vec<ModuleFault>) {
    if opens == Opens::Page && state.config.is_own_address(url) {
        faults.push(ModuleFault::OwnAddress);
    }
    check_host(opens, url, faults);
}

/// What an entry says of a module, before or after.
type Values = Option<Map<String, Value>>;

/// What the trail keeps of a module. Of the address its origin: some tools put what lets one in into the path.
fn recorded(module: &Module) -> Map<String, Value> {
    let origin = Url::parse(&module.url).map(|url| crate::config::origin(&url)).unwrap_or_default();
    let mut recorded = Map::new();
    recorded.insert("name".to_owned(), json!(module.name));
    recorded.insert("icon".to_owned(), json!(module.icon));
    recorded.insert("url".to_owned(), json!(origin));
    recorded.insert("opens".to_owned(), json!(module.opens));
    recorded.insert("roles".to_owned(), json!(module.roles));
    if module.tenant_id == TenantId::SUITE {
        recorded.insert("tenants".to_owned(), json!(module.tenants));
    }
    recorded
}

/// Writes the entry, in the trail of whose it is and in those of the tenants that the suite gives it to or takes it from by name, who
/// learn of no others.
async fn record(
    tx: &mut TenantTx,
    action: &'static str,
    before: Option<&Module>,
    after: Option<&Module>,
    values: (Values, Values),
) -> Result<(), sqlx::Error> {
    let Some(module) = after.or(before) else { return Ok(()) };
    let change = |old: Values, new: Values| Change {
        action,
        resource: "module",
        resource_id: module.id.to_string(),
        old_values: old.map(Value::from),
        new_values: new.map(Value::from),
        metadata: None,
    };
    let (old, new) = values;
    audit::record(tx, change(old.clone(), new.clone())).await?;
    let given = |module: Option<&Module>| module.map(|module| module.tenants.clone()).unwrap_or_default();
    let (had, has) = (given(before), given(after));
    let named: BTreeSet<TenantId> = had.iter().chain(&has).copied().collect();
    for tenant in named {
        let own = |values: &Values, tenants: &[TenantId]| {
            values.clone().map(|mut values| {
                if values.remove("tenants").is_some() {
                    let own: Vec<TenantId> = tenants.iter().copied().filter(|one| *one == tenant).collect();
                    values.insert("tenants".to_owned(), json!(own));
                }
                values
            })
        };
        tx.enter(tenant).await?;
        audit::record(tx, change(own(&old, &had), own(&new, &has))).await?;
    }
    tx.enter(module.tenant_id).await
}

/// Adds a module to a tenant's sidebar, or the suite's to those of its tenants.
///
/// # Errors
/// [`ModuleError`].
pub async fn create(
    tx: &mut TenantTx,
    state: &AppState,
    tenant: TenantId,
    new: &NewModule,
) -> Result<Module, ModuleError> {
    require(tx, tenant)?;
    tx.enter(tenant).await?;
    let mut faults = Vec::new();
    let name = check_name(&new.name, &mut faults);
    let url = check_url(&new.url, &mut faults);
    if let Some(url) = &url {
        check_framed(state, new.opens, url, &mut faults);
    }
    let now = tx.now();
    let module = Module {
        id: ModuleId(tx.new_id()),
        tenant_id: tenant,
        name,
        icon: check_icon(&new.icon, &mut faults),
        url: url.map(String::from).unwrap_or_default(),
        opens: new.opens,
        roles: in_order(&new.roles),
        tenants: given(state, tenant, &new.tenants, &mut faults).await?,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    if !faults.is_empty() {
        return Err(ModuleError::Invalid(faults));
    }
    if store::count_locked(tx, tenant).await? >= MAX_MODULES {
        return Err(ModuleError::TooMany);
    }
    store::insert(tx, &module).await?;
    record(tx, "module.created", None, Some(&module), (None, Some(recorded(&module)))).await?;
    realtime::append(tx, EventType::ModuleCreated, Permission::TenantRead, module.id.0).await?;
    Ok(module)
}

/// The module as it is now, held until the transaction ends, for who may change it and has seen that version.
async fn load_for_change(tx: &mut TenantTx, id: ModuleId, if_match: &IfMatch) -> Result<Module, ModuleError> {
    let found = find(tx, id).await?;
    tx.enter(found.tenant_id).await?;
    if !store::lock(tx, found.tenant_id, id).await? {
        return Err(ModuleError::NotFound);
    }
    let locked = store::find(tx, &[found.tenant_id], id).await?.ok_or(ModuleError::NotFound)?;
    if if_match.admits(locked.version) { Ok(locked) } else { Err(ModuleError::Stale) }
}

/// Changes a module. What changes nothing leaves no trace.
///
/// # Errors
/// [`ModuleError`].
pub async fn change(
    tx: &mut TenantTx,
    state: &AppState,
    id: ModuleId,
    change: &ChangeModule,
    if_match: &IfMatch,
) -> Result<Module, ModuleError> {
    let before = load_for_change(tx, id, if_match).await?;
    let mut faults = Vec::new();
    let mut after = before.clone();
    if let Some(name) = &change.name {
        after.name = check_name(name, &mut faults);
    }
    if let Some(icon) = &change.icon {
        after.icon = check_icon(icon, &mut faults);
    }
    if let Some(opens) = change.opens {
        after.opens = opens;
    }
    if let Some(url) = &change.url {
        after.url = check_url(url, &mut faults).map(String::from).unwrap_or_default();
    }
    if let Ok(url) = Url::parse(&after.url) {
        check_framed(state, after.opens, &url, &mut faults);
    }
    if let Some(roles) = &change.roles {
        after.roles = in_order(roles);
    }
    if let Some(tenants) = &change.tenants {
        after.tenants = given(state, before.tenant_id, tenants, &mut faults).await?;
    }
    if !faults.is_empty() {
        return Err(ModuleError::Invalid(faults));
    }
    if after == before {
        return Ok(before);
    }
    (after.version, after.updated_at) = (before.version + 1, tx.now());
    if !store::update(tx, &after).await? {
        return Err(ModuleError::Stale);
    }
    let (mut old, mut new) = (recorded(&before), recorded(&after));
    // Of an address of which only the path is another, the trail says that it has changed.
    let differs = |name: &str| match name {
        "url" => before.url != after.url,
        name => old.get(name) != new.get(name),
    };
    let differing: BTreeSet<String> = new.keys().filter(|name| differs(name)).cloned().collect();
    old.retain(|name, _| differing.contains(name));
    new.retain(|name, _| differing.contains(name));
    record(tx, "module.updated", Some(&before), Some(&after), (Some(old), Some(new))).await?;
    realtime::append(tx, EventType::ModuleUpdated, Permission::TenantRead, id.0).await?;
    Ok(after)
}

/// Removes a module.
///
/// # Errors
/// [`ModuleError`].
pub async fn remove(tx: &mut TenantTx, id: ModuleId, if_match: &IfMatch) -> Result<(), ModuleError> {
    let before = load_for_change(tx, id, if_match).await?;
    if !store::delete(tx, before.tenant_id, id).await? {
        return Err(ModuleError::NotFound);
    }
    record(tx, "module.deleted", Some(&before), None, (Some(recorded(&before)), None)).await?;
    realtime::append(tx, EventType::ModuleDeleted, Permission::TenantRead, id.0).await?;
    Ok(())
}
