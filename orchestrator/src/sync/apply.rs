use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;

use super::{
    model::{AccountId, Action, Evidence, Level, Link, Recorded, ScopePath, Step},
    plan::Plan,
    tool::{TakeError, Taken, Tool},
};
use crate::ids::UserId;

/// How often a step is tried where the tool is busy.
const ATTEMPTS: u32 = 5;
/// How long is waited at least and at most before it is tried again.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What is known after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The account is the person's.
    Linked {
        /// The person.
        person: UserId,
        /// Its account, and how that is known.
        link: Link,
    },
    /// The grant is ours, and like this.
    Granted {
        /// The person.
        person: UserId,
        /// Its account.
        account: AccountId,
        /// Where.
        scope: ScopePath,
        /// What it has.
        level: Level,
    },
    /// There is no grant of ours any more.
    Gone {
        /// Whose it was.
        account: AccountId,
        /// Where.
        scope: ScopePath,
    },
}

/// How a step ended.
#[derive(Debug)]
pub enum Ended {
    /// It was taken.
    Done,
    /// It was so already.
    AlreadySo,
    /// It could not be taken; the next plan has it again.
    Failed(TakeError),
    /// One that it needs was not taken.
    Skipped,
}

impl Ended {
    /// As stored and counted.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::AlreadySo => "already_so",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Where the way of a plan is written down: before each step, and after it together with what is known then.
#[async_trait]
pub trait Journal: Send {
    /// Why it can't be written; then nothing more is done.
    type Error: Send;

    /// A step is about to be taken.
    ///
    /// # Errors
    /// Where that can't be written: the step isn't taken.
    async fn begin(&mut self, place: usize, step: &Step) -> Result<(), Self::Error>;

    /// A step has ended.
    ///
    /// # Errors
    /// Where that can't be written: no further step is taken. The next plan finds it in the tool.
    async fn end(
        &mut self,
        place: usize,
        step: &Step,
        ended: &Ended,
        note: Option<&Note>,
    ) -> Result<(), Self::Error>;
}

/// How the steps of a plan ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Taken.
    pub done: usize,
    /// Were so already.
    pub already_so: usize,
    /// Could not be taken.
    pub failed: usize,
    /// Not tried, for want of another.
    pub skipped: usize,
}

impl Recorded {
    /// Takes down what is known after a step.
    pub fn keep(&mut self, note: &Note) {
        match note.clone() {
            Note::Linked { person, link } => {
                self.links.insert(person, link);
            }
            Note::Granted { account, scope, level, .. } => {
                self.grants.insert((account, scope), level);
            }
            Note::Gone { account, scope } => {
                self.grants.remove(&(account, scope));
            }
        }
    }
}

/// Takes the steps of a plan in their order, those at the places in `only` where that is given. A step that can't be taken doesn't stop
/// the others, but for those that need it. `recorded` becomes what is known after them.
///
/// # Errors
/// Where the journal can't be written; the rest is left to the next plan.
pub async fn apply<J: Journal>(
    tool: &dyn Tool,
    plan: &Plan,
    only: Option<&BTreeSet<usize>>,
    recorded: &mut Recorded,
    journal: &mut J,
) -> Result<Outcome, J::Error> {
    let mut outcome = Outcome::default();
    let mut not_done = BTreeSet::new();
    for (place, step) in plan.steps.iter().enumerate() {
        if only.is_some_and(|only| !only.contains(&place)) {
            not_done.insert(place);
            continue;
        }
        let (ended, note) = if step.needs.iter().any(|needed| not_done.contains(needed)) {
            (Ended::Skipped, None)
        } else {
            journal.begin(place, step).await?;
            take(tool, &step.action, recorded).await
        };
        match ended {
            Ended::Done => outcome.done += 1,
            Ended::AlreadySo => outcome.already_so += 1,
            Ended::Failed(_) => outcome.failed += 1,
            Ended::Skipped => outcome.skipped += 1,
        }
        if matches!(ended, Ended::Failed(_) | Ended::Skipped) {
            not_done.insert(place);
        }
        journal.end(place, step, &ended, note.as_ref()).await?;
        if let Some(note) = &note {
            recorded.keep(note);
        }
    }
    Ok(outcome)
}

/// How a step ends, and what is known then.
async fn take(tool: &dyn Tool, action: &Action, recorded: &Recorded) -> (Ended, Option<Note>) {
    let account = match action {
        Action::Set { person, account: None, .. } => {
            recorded.links.get(person).map(|link| link.account.clone())
        }
        Action::Set { account, .. } => account.clone(),
        _ => None,
    };
    let taken =
        if action.is_record() { Ok(Taken::Done) } else { patiently(tool, action, account.as_ref()).await };
    let (ended, made) = match taken {
        Ok(Taken::Done) => (Ended::Done, None),
        Ok(Taken::AlreadySo) => (Ended::AlreadySo, None),
        Ok(Taken::Account { account, evidence }) => (Ended::Done, Some((account, evidence))),
        Err(error) => return (Ended::Failed(error), None),
    };
    (ended, note(action, account, made))
}

/// Tries again where the tool is busy: a step looks before it does anything.
async fn patiently(
    tool: &dyn Tool,
    action: &Action,
    account: Option<&AccountId>,
) -> Result<Taken, TakeError> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match tool.take(action, account).await {
            Err(TakeError::Tool(error)) if error.is_retryable() => {
                tokio::time::sleep(error.retry_after.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                pause *= 2;
            }
            taken => return taken,
        }
    }
    tool.take(action, account).await
}

fn note(action: &Action, account: Option<AccountId>, made: Option<(AccountId, Evidence)>) -> Option<Note> {
    match action.clone() {
        Action::Link { person, account, evidence } => {
            Some(Note::Linked { person, link: Link { account, evidence } })
        }
        Action::Create { person, .. } => {
            let (account, evidence) = made?;
            Some(Note::Linked { person, link: Link { account, evidence } })
        }
        Action::Adopt { person, account, scope, level } => {
            Some(Note::Granted { person, account, scope, level })
        }
        Action::Forget { account, scope } => Some(Note::Gone { account, scope }),
        Action::Set { person, scope, to, .. } => {
            let account = account?;
            Some(match to {
                Some(level) => Note::Granted { person, account, scope, level },
                None => Note::Gone { account, scope },
            })
        }
        Action::Update { .. } => None,
    }
}
