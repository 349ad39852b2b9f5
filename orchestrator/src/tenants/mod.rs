//! Tenants as their people see them: who I am and where I am, a tenant's name for what is written about it, and what it has
//! decided for itself.
//!
//! Settings are one document a tenant, typed and versioned; what was never set has its default. Other slices ask
//! [`settings`]. Every change has its audit entry and its event in the same transaction.

mod model;
mod routes;
mod service;
mod store;

pub use model::{
    ChangeSettings, ChangeStepUp, CurrentSettings, MAX_MAX_AGE_SECONDS, MIN_MAX_AGE_SECONDS, SettingsFault,
    StepUp, TenantSettings,
};
pub use routes::{problem, router};
pub use service::{SettingsError, change_settings, current_settings, settings};
pub use store::{find, names, people};
