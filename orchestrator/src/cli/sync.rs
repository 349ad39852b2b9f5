//! `chancery sync`: what would be done in the tools so that they say what Keycloak says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use connector_keycloak::{KeycloakAdmin, KeycloakSettings};

use super::{
    inbox::{explained, load},
    openapi::print,
};
use crate::{
    clock::{SharedClock, SystemClock},
    config::Config,
    db::Database,
    directory::Directory,
    ids::{RandomIds, SharedIds, UserId},
    sync::{
        Action, ChatwootTool, Held, Person, Plan, Policy, Realm, Recorded, Tool, chatwoot_accounts, plan,
        tenants,
    },
    tools::Tools,
};

/// There is something to do.
const CHANGES: u8 = 2;

#[derive(Debug, Subcommand)]
pub(super) enum SyncCommand {
    /// Show what would be done in a tool; exits with 0 where nothing would, 2 where something would, 1 where that can't be told
    Plan(PlanArguments),
}

/// A tool.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Named {
    Chatwoot,
}

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// The tool
    #[arg(long, value_enum, default_value = "chatwoot")]
    tool: Named,
    /// Print JSON: the plan with its digest
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Option<&Path>, command: SyncCommand) -> anyhow::Result<ExitCode> {
    let SyncCommand::Plan(arguments) = command;
    let config = load(config)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let ids: SharedIds = Arc::new(RandomIds);
    let database =
        Database::connect(&config.database, Arc::clone(&clock), Arc::clone(&ids), Vec::new()).await?;
    let planned = match arguments.tool {
        Named::Chatwoot => plan_chatwoot(&config, &database, clock, ids).await,
    };
    database.close().await;
    let (plan, people, tool) = planned?;
    if arguments.json {
        print(&format!("{}\n", String::from_utf8(plan.write()?)?))?;
    } else {
        print(&text(&plan, &people, &*tool)?)?;
    }
    Ok(if plan.steps.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

type Planned = (Plan, BTreeMap<UserId, Person>, Box<dyn Tool>);

async fn plan_chatwoot(
    config: &Config,
    database: &Database,
    clock: SharedClock,
    ids: SharedIds,
) -> anyhow::Result<Planned> {
    let chatwoot = Tools::connect(config, &clock)?.chatwoot.context("chatwoot.url is not set")?;
    anyhow::ensure!(
        chatwoot.can_sign_in(),
        "chatwoot.platform_token is not set: a platform app's says who works where"
    );
    let settings = KeycloakSettings {
        url: config.keycloak.base()?,
        realm: config.keycloak.realm.clone(),
        client_id: config.keycloak.sync_client_id.clone(),
        client_secret: config.keycloak.sync_client_secret.clone(),
    };
    let keycloak = Arc::new(KeycloakAdmin::new(settings, Arc::clone(&clock))?);
    let directory = Directory::new(database.clone(), keycloak, clock);
    let groups = directory.group_tenants().await?;
    let accounts = chatwoot_accounts(database, &groups).await.map_err(explained)?;
    let realm = Realm::from(directory.read_whole(&tenants(&accounts)).await?);
    let tool = ChatwootTool::new(chatwoot.installation(), ids, accounts);
    let wanted = tool.wants(realm);
    let observed = tool.observe(&wanted.scopes, &BTreeSet::new()).await?;
    // Nothing was applied yet.
    let recorded = Recorded::default();
    let plan = plan(tool.name(), &wanted, &observed, &recorded, &Policy::default());
    Ok((plan, wanted.people, Box::new(tool)))
}

fn held(reason: &Held) -> String {
    match reason {
        Held::FirstContact => "nothing was ever done in this tool".to_owned(),
        Held::TooMany { kind, taken, of } => {
            format!("it takes {taken} of the {of} grants of the kind {}", kind.as_str())
        }
        Held::Empties { scope } => format!("{scope} would be left without anybody"),
        Held::Recreates { accounts } => format!("{accounts} accounts that were known are gone"),
        Held::Restores { kind, grants } => {
            format!("{grants} grants of the kind {} are gone and would be made again", kind.as_str())
        }
    }
}

/// A value as the JSON of plans has it.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}

/// A plan for people.
fn text(plan: &Plan, people: &BTreeMap<UserId, Person>, tool: &dyn Tool) -> anyhow::Result<String> {
    let name = |id: &UserId| match people.get(id) {
        Some(person) => format!("{} ({id})", person.name),
        None => id.to_string(),
    };
    let level = |level: &Option<crate::sync::Level>| level.map_or("nothing", |level| tool.level_name(level));
    let mut text = String::new();
    for step in &plan.steps {
        match &step.action {
            Action::Link { person, account, .. } => {
                writeln!(text, "link     {} to the account {account}", name(person))?;
            }
            Action::Adopt { person, scope, level: has, .. } => {
                writeln!(text, "adopt    {} in {scope}: {}", name(person), tool.level_name(*has))?;
            }
            Action::Forget { account, scope } => writeln!(text, "forget   the account {account} in {scope}")?,
            Action::Create { person, mail, .. } => {
                writeln!(text, "create   an account for {}, {mail}", name(person))?;
            }
            Action::Update { person, account, .. } => {
                writeln!(text, "update   the account {account} of {}", name(person))?;
            }
            Action::Set { person, scope, from, to, .. } => {
                let verb = if step.action.takes() { "take" } else { "give" };
                writeln!(text, "{verb:8} {} in {scope}: {} → {}", name(person), level(from), level(to))?;
            }
        }
    }
    for drift in &plan.drift {
        let whose = match (&drift.person, &drift.account) {
            (Some(person), _) => name(person),
            (None, Some(account)) => format!("the account {account}"),
            (None, None) => "somebody".to_owned(),
        };
        let (seen, wanted) = (level(&drift.seen), level(&drift.wanted));
        writeln!(
            text,
            "drift    {whose} in {}: {seen}, and is to have {wanted} ({})",
            drift.scope,
            word(&drift.verdict)
        )?;
    }
    for identity in &plan.identities {
        let whose = identity.person.as_ref().map_or_else(String::new, &name);
        let account =
            identity.account.as_ref().map_or_else(String::new, |account| format!(" account {account}"));
        let why = identity.why.map_or_else(String::new, |why| format!(": {}", word(&why)));
        writeln!(text, "identity {whose}{account} is {}{why}", word(&identity.situation))?;
    }
    for reason in &plan.held {
        writeln!(text, "held     {}", held(reason))?;
    }
    writeln!(text, "{} steps in {}, digest {}", plan.steps.len(), plan.tool, plan.digest()?)?;
    Ok(text)
}
