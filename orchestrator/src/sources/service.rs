//! The commands. The caller commits, and then calls [`super::forget`].

use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    forget,
    model::{
        Added, ChangeSource, Fault, GRACE_SECONDS, MAX_ACCOUNT, MAX_GRACE_SECONDS, MAX_NAME,
        MAX_SECRET_BYTES, MOST_SECRETS, NewSecret, NewSource, Purpose, RequestLimit, Rotated, SecretInfo,
        SourceFilter, SourceScheme, SourceState, WebhookSource, path,
    },
    store,
};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::{Decision, Permission, Resource, can},
    crypto::{CryptoError, MasterKey},
    db::{Actor, Database, TenantTx},
    http::{
        etag::IfMatch,
        page::{Page, TimedPosition},
    },
    ids::{IdGenerator, SourceId, TenantId},
    realtime::{self, EventType},
};

/// What secrets are sealed for.
pub(super) const SEALED_FOR: &str = "webhook source secrets";

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Unknown, or a stranger's.
    #[error("there is no such source")]
    NotFound,
    /// None of the roles allows it.
    #[error("no role allows this")]
    Forbidden,
    /// It has changed since it was read.
    #[error("it has changed meanwhile")]
    Stale,
    /// The account has a source of this service already.
    #[error("the account has a source already")]
    AccountTaken,
    /// Something in it makes no sense.
    #[error("it makes no sense")]
    Invalid(Vec<Fault>),
    /// A secret can't be sealed or opened.
    #[error("the source's secrets can't be used")]
    Crypto(#[from] CryptoError),
    /// The secrets are not what was sealed.
    #[error("the source's secrets can't be read")]
    Secrets(#[from] serde_json::Error),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

pub(super) fn invalid(pointer: &str, detail: impl Into<String>) -> SourceError {
    SourceError::Invalid(vec![Fault::new(pointer, detail)])
}

/// Who operates the server may at its command line what who runs the suite may here.
pub(super) fn require(tx: &TenantTx, permission: Permission, tenant: TenantId) -> Result<(), SourceError> {
    let Actor::Principal(principal) = tx.actor() else { return Ok(()) };
    match can(principal, permission, &Resource::of(tenant)) {
        Decision::Allowed => Ok(()),
        Decision::Stranger => Err(SourceError::NotFound),
        Decision::MissingPermission
        | Decision::OwnRequest
        | Decision::NotOwnRequest
        | Decision::NotInvolved => Err(SourceError::Forbidden),
    }
}

/// Whether the actor may say whose an account of Chatwoot is. One token opens all of them to us: a tenant's owners could name
/// another's, have it read, and write into its conversations.
fn may_name_accounts(tx: &TenantTx, tenant: TenantId) -> bool {
    tenant == TenantId::SUITE || matches!(tx.actor(), Actor::System)
}

/// The tenants whose sources the transaction's actor may see.
fn readable(tx: &TenantTx) -> Vec<TenantId> {
    match tx.actor() {
        Actor::Principal(principal) => principal.tenants_with(Permission::WebhookSourceRead),
        Actor::System => tx.tenant().into_iter().collect(),
    }
}

fn check_name(name: &str, faults: &mut Vec<Fault>) {
    if !(1..=MAX_NAME).contains(&name.chars().count()) {
        faults.push(Fault::new("/name", format!("must have 1 to {MAX_NAME} characters")));
    }
}

fn check_limit(limit: Option<RequestLimit>, faults: &mut Vec<Fault>) {
    let Some(limit) = limit else { return };
    if !(1..=1_000_000).contains(&limit.requests) {
        faults.push(Fault::new("/limit/requests", "must be from 1 to 1000000"));
    }
    if !(1..=86_400).contains(&limit.seconds) {
        faults.push(Fault::new("/limit/seconds", "must be from 1 to 86400"));
    }
}

fn check_scheme(scheme: &SourceScheme, service: &str, faults: &mut Vec<Fault>) {
    let is_own = |name: Option<&str>| name == Some(service);
    let alone = [SourceScheme::Chatwoot, SourceScheme::Matrix].into_iter().find(|own| is_own(own.service()));
    if alone.is_some_and(|own| own != *scheme) {
        faults.push(Fault::new("/scheme", "must be the service's own"));
    } else if scheme.service().is_some() && !is_own(scheme.service()) {
        faults.push(Fault::new("/scheme", "is another service's own"));
    }
    faults.extend(scheme.check());
}

fn check_account(account: Option<&str>, scheme: &SourceScheme, faults: &mut Vec<Fault>) {
    match (scheme, account) {
        (SourceScheme::Chatwoot, account)
            if !account.is_some_and(|account| account.parse::<i64>().is_ok_and(|id| id > 0)) =>
        {
            faults.push(Fault::new("/account", "must be the id of Chatwoot's account"));
        }
        (SourceScheme::Matrix, None) => {
            faults.push(Fault::new("/account", "must be the id of the application service"));
        }
        (_, Some(account)) if !(1..=MAX_ACCOUNT).contains(&account.chars().count()) => {
            faults.push(Fault::new("/account", format!("must have 1 to {MAX_ACCOUNT} characters")));
        }
        _ => {}
    }
}

fn is_service(service: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = service.as_bytes();
    (1..=40).contains(&bytes.len())
        && is_letter(bytes[0])
        && bytes.iter().all(|byte| is_letter(*byte) || *byte == b'-')
}

fn check_secret(scheme: &SourceScheme, secret: &SecretString, pointer: &str) -> Result<(), Fault> {
    if secret.expose_secret().len() > MAX_SECRET_BYTES {
        return Err(Fault::new(pointer, "must be at most 16 KiB"));
    }
    scheme.check_secret(secret).map_err(|error| Fault::new(pointer, error.to_string()))
}

/// 256 bits that nobody can guess.
fn random(ids: &dyn IdGenerator) -> [u8; 32] {
    let mut random = [0; 32];
    ids.fill(&mut random);
    random
}

/// A token that can stand in a query.
fn new_token(ids: &dyn IdGenerator) -> SecretString {
    SecretString::from(hex::encode(random(ids)))
}

/// What the trail keeps of a source.
fn recorded(source: &WebhookSource) -> Value {
    json!({
        "service": source.service,
        "name": source.name,
        "account": source.account,
        "scheme": source.scheme,
        "state": source.state,
        "limit": source.limit,
        "secrets": source.secrets.len(),
    })
}

/// Those members of one that are others in the other.
fn difference(one: &Value, other: &Value) -> Value {
    let members = one.as_object().into_iter().flatten();
    members
        .filter(|(name, value)| other.get(*name) != Some(*value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn record(
    tx: &mut TenantTx,
    action: &'static str,
    id: SourceId,
    old_values: Option<Value>,
    new_values: Option<Value>,
) -> Result<(), sqlx::Error> {
    let resource_id = id.to_string();
    let change =
        Change { action, resource: "webhook_source", resource_id, old_values, new_values, metadata: None };
    audit::record(tx, change).await.map(drop)
}

/// Tells who looks at the sources. It comes last in a transaction.
pub(super) async fn tell(tx: &mut TenantTx, event: EventType, id: SourceId) -> Result<(), sqlx::Error> {
    realtime::append(tx, event, Permission::WebhookSourceRead, id.0).await
}

async fn add_secret(
    tx: &mut TenantTx,
    key: &MasterKey,
    source: &mut WebhookSource,
    purpose: Purpose,
    value: &SecretString,
) -> Result<SecretInfo, SourceError> {
    let now = tx.now();
    let info = SecretInfo { id: tx.new_id(), purpose, created_at: now, valid_from: now, valid_until: None };
    let sealed = key.seal(&**tx.ids(), SEALED_FOR, &serde_json::to_vec(&[value.expose_secret()])?)?;
    store::insert_secret(tx, source, &info, &sealed).await?;
    source.secrets.insert(0, info.clone());
    Ok(info)
}

/// Adds a source of a tenant, or of the suite. Its id is its URL's unguessable part.
///
/// # Errors
/// [`SourceError`].
pub async fn add(
    tx: &mut TenantTx,
    key: &MasterKey,
    tenant: TenantId,
    new: NewSource,
) -> Result<Added, SourceError> {
    require(tx, Permission::WebhookSourceManage, tenant)?;
    tx.enter(tenant).await?;
    let name = match new.name.trim() {
        "" => new.service.clone(),
        name => name.to_owned(),
    };
    let mut faults = Vec::new();
    if !is_service(&new.service) {
        faults.push(Fault::new("/service", "must have 1 to 40 of a-z, 0-9 and -, and begin with none of -"));
    }
    check_name(&name, &mut faults);
    check_scheme(&new.scheme, &new.service, &mut faults);
    check_account(new.account.as_deref(), &new.scheme, &mut faults);
    check_limit(new.limit, &mut faults);
    if let Some(secret) = new.secret.as_ref().filter(|_| faults.is_empty()) {
        faults.extend(check_secret(&new.scheme, secret, "/secret").err());
    }
    if faults.is_empty() && new.scheme == SourceScheme::Chatwoot && !may_name_accounts(tx, tenant) {
        faults.push(Fault::new(
            "/scheme",
            "is set up by who runs the suite, by `chancery chatwoot install`: an account is asked with the suite's own token",
        ));
    }
    if !faults.is_empty() {
        return Err(SourceError::Invalid(faults));
    }
    let mut unguessable = [0; 16];
    tx.ids().fill(&mut unguessable);
    let id = SourceId(uuid::Builder::from_random_bytes(unguessable).into_uuid());
    let mut source = WebhookSource {
        path: path(&new.service, id),
        id,
        tenant_id: tenant,
        service: new.service,
        name,
        account: new.account,
        scheme: new.scheme,
        state: SourceState::Active,
        limit: new.limit,
        secrets: Vec::new(),
        version: 1,
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    if !store::insert(tx, &source).await? {
        return Err(SourceError::AccountTaken);
    }
    let made = if new.secret.is_some() { None } else { source.scheme.new_secret(random(&**tx.ids())) };
    if let Some(secret) = new.secret.as_ref().or(made.as_ref()) {
        add_secret(tx, key, &mut source, Purpose::Signature, secret).await?;
    }
    let challenge_token = source.scheme.has_challenge_token().then(|| new_token(&**tx.ids()));
    if let Some(token) = &challenge_token {
        add_secret(tx, key, &mut source, Purpose::Challenge, token).await?;
    }
    record(tx, "webhook_source.registered", id, None, Some(recorded(&source))).await?;
    tell(tx, EventType::SourceCreated, id).await?;
    Ok(Added { source, secret: made, challenge_token })
}

/// The source with this id, for who may see it.
///
/// # Errors
/// [`SourceError`].
pub async fn get(tx: &mut TenantTx, id: SourceId) -> Result<WebhookSource, SourceError> {
    let tenants = readable(tx);
    store::find(tx, &tenants, id).await?.ok_or(SourceError::NotFound)
}

/// The sources of the filter's tenants, newest first. The caller has proven that the tenants may be read.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page(tx: &mut TenantTx, filter: &SourceFilter) -> Result<Page<WebhookSource>, sqlx::Error> {
    let sources = store::list(tx, filter).await?;
    Ok(Page::with_cursor(sources, filter.limit, |last| {
        TimedPosition { time: last.created_at, id: last.id.0 }.cursor()
    }))
}

/// The source with this id as the actor may change it, held until the transaction ends.
async fn load(tx: &mut TenantTx, id: SourceId, if_match: &IfMatch) -> Result<WebhookSource, SourceError> {
    let seen = get(tx, id).await?;
    require(tx, Permission::WebhookSourceManage, seen.tenant_id)?;
    tx.enter(seen.tenant_id).await?;
    store::lock(tx, seen.tenant_id, id).await?;
    let source = get(tx, id).await?;
    if if_match.admits(source.version) { Ok(source) } else { Err(SourceError::Stale) }
}

async fn save(tx: &mut TenantTx, source: &mut WebhookSource) -> Result<(), SourceError> {
    source.version += 1;
    source.updated_at = tx.now();
    if store::update(tx, source).await? { Ok(()) } else { Err(SourceError::NotFound) }
}

/// Changes what is named; what changes nothing leaves no trace.
///
/// # Errors
/// [`SourceError`].
pub async fn change(
    tx: &mut TenantTx,
    key: &MasterKey,
    id: SourceId,
    change: ChangeSource,
    if_match: &IfMatch,
) -> Result<WebhookSource, SourceError> {
    let before = load(tx, id, if_match).await?;
    let mut after = before.clone();
    let mut faults = Vec::new();
    if let Some(name) = change.name {
        name.trim().clone_into(&mut after.name);
        check_name(&after.name, &mut faults);
    }
    if let Some(state) = change.state {
        after.state = state;
    }
    if let Some(limit) = change.limit {
        after.limit = limit;
        check_limit(limit, &mut faults);
    }
    if let Some(scheme) = change.scheme {
        after.scheme = scheme;
        check_scheme(&after.scheme, &after.service, &mut faults);
        check_account(after.account.as_deref(), &after.scheme, &mut faults);
        if faults.is_empty() {
            for sealed in store::sealed(tx, &before).await? {
                let fits = open(key, &sealed)?.iter().all(|secret| after.scheme.check_secret(secret).is_ok());
                if !fits {
                    return Err(invalid("/scheme", "needs secrets in another form than the source's"));
                }
            }
        }
    }
    if !faults.is_empty() {
        return Err(SourceError::Invalid(faults));
    }
    if after == before {
        return Ok(before);
    }
    save(tx, &mut after).await?;
    let (old, new) = (recorded(&before), recorded(&after));
    record(tx, "webhook_source.updated", id, Some(difference(&old, &new)), Some(difference(&new, &old)))
        .await?;
    tell(tx, EventType::SourceUpdated, id).await?;
    Ok(after)
}

/// The secrets that were sealed together.
pub(super) fn open(key: &MasterKey, sealed: &[u8]) -> Result<Vec<SecretString>, SourceError> {
    let secrets: Vec<String> = serde_json::from_slice(&key.open(SEALED_FOR, sealed)?)?;
    Ok(secrets.into_iter().map(SecretString::from).collect())
}

/// Whether a source verifies with this secret already.
///
/// # Errors
/// [`SourceError`].
pub async fn has_secret(
    tx: &mut TenantTx,
    key: &MasterKey,
    id: SourceId,
    secret: &SecretString,
) -> Result<bool, SourceError> {
    let source = get(tx, id).await?;
    for sealed in store::sealed(tx, &source).await? {
        if open(key, &sealed)?.iter().any(|known| known.expose_secret() == secret.expose_secret()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives a source a new secret, which counts at once. The others of its purpose count for a while longer, so that what is on
/// its way isn't lost.
///
/// # Errors
/// [`SourceError`].
pub async fn rotate(
    tx: &mut TenantTx,
    key: &MasterKey,
    id: SourceId,
    new: NewSecret,
    if_match: &IfMatch,
) -> Result<Rotated, SourceError> {
    let before = load(tx, id, if_match).await?;
    let grace = new.grace_seconds.unwrap_or(GRACE_SECONDS);
    if grace > MAX_GRACE_SECONDS {
        return Err(invalid("/graceSeconds", format!("must be at most {MAX_GRACE_SECONDS}")));
    }
    if new.purpose == Purpose::Challenge && !before.scheme.has_challenge_token() {
        return Err(invalid("/purpose", "is none of this scheme"));
    }
    let made = match (&new.value, new.purpose) {
        (Some(_), _) => None,
        (None, Purpose::Challenge) => Some(new_token(&**tx.ids())),
        (None, Purpose::Signature) => before.scheme.new_secret(random(&**tx.ids())),
    };
    let Some(value) = new.value.as_ref().or(made.as_ref()) else {
        return Err(invalid("/value", "must be the secret that the tool has made"));
    };
    if new.purpose == Purpose::Signature {
        check_secret(&before.scheme, value, "/value").map_err(|fault| SourceError::Invalid(vec![fault]))?;
    } else if !(16..=MAX_NAME).contains(&value.expose_secret().len()) {
        return Err(invalid("/value", format!("must have 16 to {MAX_NAME} bytes")));
    }
    let until = tx.now() + TimeDelta::seconds(grace.into());
    store::end_secrets(tx, &before, new.purpose, until).await?;
    // As they are now: some have ended.
    let mut after = get(tx, id).await?;
    if after.secrets.len() >= MOST_SECRETS {
        return Err(invalid("/value", format!("is one more than {MOST_SECRETS}: revoke another first")));
    }
    let secret = add_secret(tx, key, &mut after, new.purpose, value).await?;
    save(tx, &mut after).await?;
    let new_values = json!({
        "secret": secret.id, "purpose": secret.purpose, "madeHere": made.is_some(), "graceSeconds": grace,
    });
    record(tx, "webhook_source.secret_rotated", id, None, Some(new_values)).await?;
    tell(tx, EventType::SourceUpdated, id).await?;
    Ok(Rotated { source: after, secret, value: made })
}

/// Takes a secret away at once.
///
/// # Errors
/// [`SourceError`].
pub async fn revoke(
    tx: &mut TenantTx,
    id: SourceId,
    secret: Uuid,
    if_match: &IfMatch,
) -> Result<WebhookSource, SourceError> {
    let mut source = load(tx, id, if_match).await?;
    let Some(at) = source.secrets.iter().position(|known| known.id == secret) else {
        return Err(SourceError::NotFound);
    };
    let revoked = source.secrets.remove(at);
    if !store::delete_secret(tx, &source, secret).await? {
        return Err(SourceError::NotFound);
    }
    save(tx, &mut source).await?;
    let old_values = json!({ "secret": revoked.id, "purpose": revoked.purpose });
    record(tx, "webhook_source.secret_revoked", id, Some(old_values), None).await?;
    tell(tx, EventType::SourceUpdated, id).await?;
    Ok(source)
}

/// Removes a source for good, with its secrets.
///
/// # Errors
/// [`SourceError`].
pub async fn remove(
    tx: &mut TenantTx,
    id: SourceId,
    if_match: &IfMatch,
) -> Result<WebhookSource, SourceError> {
    let source = load(tx, id, if_match).await?;
    if !store::remove(tx, source.tenant_id, id).await? {
        return Err(SourceError::NotFound);
    }
    record(tx, "webhook_source.removed", id, Some(recorded(&source)), None).await?;
    tell(tx, EventType::SourceDeleted, id).await?;
    Ok(source)
}

/// The tenant that who operates the server names: by its UUID, by its path, or `suite`.
///
/// # Errors
/// Where the database can't be asked.
pub async fn named_tenant(database: &Database, named: &str) -> Result<Option<TenantId>, sqlx::Error> {
    if named == "suite" {
        return Ok(Some(TenantId::SUITE));
    }
    let mut tx = database.system_tx().await?;
    store::tenant_named(&mut tx, named).await
}

/// Whose a source is, for who operates the server.
///
/// # Errors
/// Where the database can't be asked.
pub async fn tenant_of(database: &Database, id: SourceId) -> Result<Option<TenantId>, sqlx::Error> {
    let mut tx = database.system_tx().await?;
    store::tenant_of(&mut tx, id).await
}

/// The sources of one tenant or of all, for who operates the server; at most a thousand of each.
///
/// # Errors
/// Where the database can't be asked.
pub async fn of_tenants(
    database: &Database,
    tenant: Option<TenantId>,
) -> Result<Vec<WebhookSource>, sqlx::Error> {
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => store::tenants(&mut database.system_tx().await?).await?,
    };
    let mut sources = Vec::new();
    for tenant in tenants {
        let mut tx = database.worker_tx(tenant).await?;
        let filter =
            SourceFilter { tenants: vec![tenant], service: None, state: None, before: None, limit: 999 };
        sources.extend(store::list(&mut tx, &filter).await?);
    }
    Ok(sources)
}

/// Does what an administrator does once: adds a source for this account, or gives the one that it has this name and secret
/// instead of its own.
///
/// # Errors
/// [`SourceError`].
pub async fn register_source(
    state: &AppState,
    tenant: TenantId,
    scheme: SourceScheme,
    name: &str,
    account: &str,
    secret: Option<SecretString>,
) -> Result<SourceId, SourceError> {
    let service = scheme.service().unwrap_or("webhook");
    let mut tx = state.database.worker_tx(tenant).await?;
    let id = if let Some(id) = store::of_account(&mut tx, tenant, service, account).await? {
        let renamed = ChangeSource {
            name: Some(name.to_owned()),
            state: Some(SourceState::Active),
            ..ChangeSource::default()
        };
        change(&mut tx, &state.master_key, id, renamed, &IfMatch::Any).await?;
        if secret.is_some() {
            let new = NewSecret { value: secret, grace_seconds: Some(0), ..NewSecret::default() };
            rotate(&mut tx, &state.master_key, id, new, &IfMatch::Any).await?;
        }
        id
    } else {
        let new = NewSource {
            service: service.to_owned(),
            name: name.to_owned(),
            account: Some(account.to_owned()),
            scheme,
            limit: None,
            secret,
        };
        add(&mut tx, &state.master_key, tenant, new).await?.source.id
    };
    tx.commit().await?;
    forget(state, id, service).await;
    Ok(id)
}
