//! Roles flow downward: what Keycloak says of people and groups, as accounts, members and roles in the tools.
//!
//! What decides knows no database and no tool. From what is *wanted* ([`Wanted`]), what is there
//! ([`Observed`]) and what we know of it ([`Recorded`]), [`plan`] makes the [`Plan`] of a tool: its steps in their order, what is
//! to be shown to people, and whether it is held. The same input makes the same plan, to the byte; a plan that was applied leaves
//! nothing to plan; and on the way nobody has more than before or after. docs/SYNC.md tells the rules.
//!
//! - `model`: the states and the steps;
//! - `correlate`: whose an account of the tool is;
//! - `diff`: from the states to the steps;
//! - `brake`: which plans wait for an administrator;
//! - `plan`: a plan as a document with a digest;
//! - `apply`: takes the steps of a plan;
//! - `tool`: what the engine asks of a tool;
//! - `chatwoot`: Chatwoot as one;
//! - `layout`: whose an account of Chatwoot is;
//! - `store`: links, grants, plans and their steps;
//! - `service`: a plan from its making to its end;
//! - `reconcile`: does it by itself, by one replica at a time.

mod apply;
mod brake;
mod chatwoot;
mod correlate;
mod diff;
mod layout;
mod model;
mod plan;
mod reconcile;
mod service;
mod store;
mod tool;

#[cfg(test)]
mod tests;

pub use apply::{Ended, Journal, Note, Outcome, apply};
pub use brake::{Held, Limits};
pub use chatwoot::{ChatwootTool, MADE_FOR, Whose};
pub use correlate::{Identity, Situation, Why};
pub use layout::{chatwoot_accounts, connect_chatwoot, policy, tenants};
pub use model::{
    Account, AccountId, Action, Cause, Drift, DriftPolicy, Evidence, Kind, Level, Link, Observed, Person,
    Policy, Recorded, Scope, ScopePath, Step, Verdict, Wanted,
};
pub use plan::{Counts, Digest, FORMAT, Plan, ReadPlanError, plan};
pub use reconcile::{Ran, Syncing};
pub use service::{Prepared, SyncError, carry_out, prepare};
pub use tool::{Realm, TakeError, Taken, Tool};
