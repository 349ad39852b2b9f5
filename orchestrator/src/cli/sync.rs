//! `chancery sync`: what is to be done in the tools so that they say what Keycloak says, shown and done.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use connector_keycloak::{KeycloakAdmin, KeycloakSettings};

use super::{inbox::load, openapi::print};
use crate::{
    clock::{SharedClock, SystemClock},
    config::Config,
    db::{Database, Duty},
    directory::Directory,
    ids::{RandomIds, SharedIds, UserId},
    sync::{
        Action, ChatwootTool, Held, Level, Person, Plan, Prepared, Realm, Tool, carry_out, connect_chatwoot,
        policy, prepare,
    },
    tools::Tools,
};

/// There is something to do.
const CHANGES: u8 = 2;

#[derive(Debug, Subcommand)]
pub(super) enum SyncCommand {
    /// Show what would be done in a tool; exits with 0 where nothing would, 2 where something would, 1 where that can't be told
    Plan(PlanArguments),
    /// Carry a plan out: that of a file, or with --yes whatever it is now; exits with 1 where a step could not be taken
    ///
    /// A plan that is held is carried out from its file only: somebody has looked at exactly this one.
    Apply(ApplyArguments),
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

#[derive(Debug, Args)]
pub(super) struct ApplyArguments {
    /// A file that `sync plan --json` has written; refused where it isn't the plan any more
    #[arg(value_name = "PLAN", required_unless_present = "yes")]
    file: Option<PathBuf>,
    /// The tool
    #[arg(long, value_enum, default_value = "chatwoot")]
    tool: Named,
    /// Carry out what the plan is now, without a file
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(config: Option<&Path>, command: SyncCommand) -> anyhow::Result<ExitCode> {
    let config = load(config)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let ids: SharedIds = Arc::new(RandomIds);
    let database =
        Database::connect(&config.database, Arc::clone(&clock), Arc::clone(&ids), Vec::new()).await?;
    let done = match &command {
        SyncCommand::Plan(arguments) => show(&config, &database, (clock, ids), arguments).await,
        SyncCommand::Apply(arguments) => apply(&config, &database, (clock, ids), arguments).await,
    };
    database.close().await;
    done
}

async fn show(
    config: &Config,
    database: &Database,
    injected: (SharedClock, SharedIds),
    arguments: &PlanArguments,
) -> anyhow::Result<ExitCode> {
    let (tool, prepared) = prepared(config, database, injected, arguments.tool).await?;
    let plan = &prepared.plan;
    if arguments.json {
        print(&format!("{}\n", String::from_utf8(plan.write()?)?))?;
    } else {
        print(&text(plan, &prepared.wanted.people, &*tool)?)?;
    }
    Ok(if plan.steps.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

async fn apply(
    config: &Config,
    database: &Database,
    injected: (SharedClock, SharedIds),
    arguments: &ApplyArguments,
) -> anyhow::Result<ExitCode> {
    let reviewed = match &arguments.file {
        None => None,
        Some(file) => {
            let read = || Ok::<_, anyhow::Error>(Plan::read(&std::fs::read(file)?)?);
            Some(read().with_context(|| format!("{} can't be used", file.display()))?)
        }
    };
    let mut candidate = database.candidate(Duty::CarryOut);
    anyhow::ensure!(candidate.leads_for_sure().await, "somebody else carries out a plan right now");
    let (tool, prepared) = prepared(config, database, injected, arguments.tool).await?;
    let plan = &prepared.plan;
    match &reviewed {
        Some(reviewed) => anyhow::ensure!(
            reviewed.digest()? == plan.digest()?,
            "the file is not the plan any more: something has changed since. Plan anew"
        ),
        None => anyhow::ensure!(
            plan.held.is_empty(),
            "the plan is held ({}): look at it (`sync plan --json > plan.json`), and carry out that file",
            plan.held.iter().map(held).collect::<Vec<_>>().join("; ")
        ),
    }
    if plan.steps.is_empty() {
        print("nothing to do\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = carry_out(database, &*tool, prepared, None).await?;
    candidate.resign().await;
    print(&format!(
        "{} done, {} were so already, {} failed, {} skipped\n",
        outcome.done, outcome.already_so, outcome.failed, outcome.skipped
    ))?;
    Ok(if outcome.failed + outcome.skipped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn prepared(
    config: &Config,
    database: &Database,
    injected: (SharedClock, SharedIds),
    tool: Named,
) -> anyhow::Result<(Box<dyn Tool>, Prepared)> {
    match tool {
        Named::Chatwoot => {
            let (tool, realm) = chatwoot(config, database, injected).await?;
            let prepared = prepare(database, &tool, realm, &policy(&config.sync.chatwoot)).await?;
            Ok((Box::new(tool), prepared))
        }
    }
}

/// Chatwoot as a tool, and Keycloak's people who have something there.
async fn chatwoot(
    config: &Config,
    database: &Database,
    (clock, ids): (SharedClock, SharedIds),
) -> anyhow::Result<(ChatwootTool, Realm)> {
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
    Ok(connect_chatwoot(database, &directory, &chatwoot, ids).await?)
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
    let level = |level: &Option<Level>| level.map_or("nothing", |level| tool.level_name(level));
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
