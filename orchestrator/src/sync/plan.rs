use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    brake::{self, Held, Limits},
    correlate::Identity,
    diff::diff,
    model::{Action, Cause, Drift, Kind, Observed, Policy, Recorded, Step, Wanted},
};

/// The format of plans that this version writes and reads.
pub const FORMAT: u32 = 1;

/// SHA-256 of a plan's canonical JSON, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How many steps of which sort a plan has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Written down, and nothing done in the tool.
    pub records: usize,
    /// Accounts made.
    pub creates: usize,
    /// Names and addresses renewed.
    pub updates: usize,
    /// Grants made or raised.
    pub gives: BTreeMap<Kind, usize>,
    /// Grants taken or lowered.
    pub takes: BTreeMap<Kind, usize>,
}

/// What is to be done in a tool. It says nothing of when it was made: the same states make the same plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// The tool's name.
    pub tool: String,
    /// How many steps of which sort.
    pub counts: Counts,
    /// Why it waits for an administrator; nothing where it doesn't.
    pub held: Vec<Held>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What isn't as Keycloak says.
    pub drift: Vec<Drift>,
    /// Whose account isn't settled.
    pub identities: Vec<Identity>,
}

/// A file that is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ReadPlanError {
    /// It isn't the JSON of a plan.
    #[error("it is not a plan")]
    Json(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("it is a plan of format {0}, and this version reads {FORMAT}")]
    Format(u32),
    /// Something has changed it since it was made.
    #[error("its digest is not that of its content")]
    Digest,
}

/// A plan in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    digest: Digest,
    plan: Plan,
}

/// Makes the plan of a tool from what is wanted, what is there, and what we know.
pub fn plan(tool: &str, wanted: &Wanted, observed: &Observed, recorded: &Recorded, policy: &Policy) -> Plan {
    let changes = diff(wanted, observed, recorded, policy);
    let held = brake::held(&changes.steps, wanted, observed, recorded, &policy.limits);
    let mut counts = Counts::default();
    for step in &changes.steps {
        match &step.action {
            action if action.is_record() => counts.records += 1,
            Action::Create { .. } => counts.creates += 1,
            Action::Update { .. } => counts.updates += 1,
            Action::Set { scope, .. } => {
                if let Some(scope) = wanted.scopes.get(scope) {
                    let side = if step.action.takes() { &mut counts.takes } else { &mut counts.gives };
                    *side.entry(scope.kind).or_default() += 1;
                }
            }
            Action::Link { .. } | Action::Adopt { .. } | Action::Forget { .. } => {}
        }
    }
    Plan {
        format: FORMAT,
        tool: tool.to_owned(),
        counts,
        held,
        steps: changes.steps,
        drift: changes.drift,
        identities: changes.identities,
    }
}

impl Plan {
    /// The plan as JSON without a choice: members in the order of their declaration, no spaces.
    ///
    /// # Errors
    /// Never, in practice: all keys are texts.
    pub fn canonical(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// What the plan is known by.
    ///
    /// # Errors
    /// As [`Self::canonical`].
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        Ok(Digest(hex::encode(Sha256::digest(self.canonical()?))))
    }

    /// The plan as a file for people and for [`Self::read`], with its digest.
    ///
    /// # Errors
    /// As [`Self::canonical`].
    pub fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(&Sealed { digest: self.digest()?, plan: self.clone() })
    }

    /// The plan in a file that [`Self::write`] made.
    ///
    /// # Errors
    /// [`ReadPlanError`].
    pub fn read(file: &[u8]) -> Result<Self, ReadPlanError> {
        let sealed: Sealed = serde_json::from_slice(file)?;
        if sealed.plan.format != FORMAT {
            return Err(ReadPlanError::Format(sealed.plan.format));
        }
        if sealed.plan.digest()? != sealed.digest {
            return Err(ReadPlanError::Digest);
        }
        Ok(sealed.plan)
    }

    /// What doesn't wait while the plan is held: what is taken from those who were disabled, as long as that alone isn't more than may
    /// be taken at all. The places of the steps.
    pub fn urgent(&self, limits: &Limits) -> Vec<usize> {
        if self.held.contains(&Held::FirstContact) {
            return Vec::new();
        }
        let urgent = self.steps.iter().enumerate().filter(|(_, step)| {
            step.cause == Cause::Disabled && step.action.takes() && step.needs.is_empty()
        });
        let urgent: Vec<usize> = urgent.map(|(place, _)| place).collect();
        let is_within = usize::try_from(limits.count).is_ok_and(|count| urgent.len() <= count);
        if is_within { urgent } else { Vec::new() }
    }
}
