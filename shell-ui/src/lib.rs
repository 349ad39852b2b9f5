//! Chancery's shell, as far as a browser sees it.
//!
//! This crate owns the look and the words: templates, plain view models, styles, scripts and localised texts. It
//! knows nothing of the orchestrator: a handler fills a view model with strings and numbers and renders it, so a
//! template can neither run a query nor read a secret.
//!
//! - [`Assets`] serves what pages refer to, under names that carry a hash of the content;
//! - [`Ui`] is what every page is made with: assets, language, theme, and helpers for texts and times;
//! - [`Chrome`] is what the signed-in pages share: tenants, modules, the person, live updates;
//! - [`pages`] has one struct a page, each an [`askama::Template`];
//! - `samples` (feature `samples`) has every page with sample data, for the gallery and the tests.
//!
//! Pages keep to a strict content security policy: no inline script, style or event handler anywhere.

mod assets;
mod chrome;
mod icons;
mod model;
pub mod pages;
mod texts;
mod ui;

#[cfg(feature = "samples")]
pub mod samples;

pub use askama::{Error as RenderError, Template};
pub use assets::{Asset, Assets, WORKER_PATH};
pub use chrome::{Chrome, Flash, FlashKind, Live, ModuleKind, ModuleLink, TenantKind, TenantLink};
pub use icons::{ICON_NAMES, icon};
pub use model::{
    ApprovalFilter, ApprovalRow, ApprovalStatus, AttemptRow, AuditChange, AuditEntry, AuditFilter, Choice,
    ConsultationRow, ConsultationStatus, ConversationContext, ConversationRow, ConversationStatus,
    DeliveryRow, DeliveryState, EndpointRow, EndpointState, EventChoice, EventGroup, Fact, FieldErrors,
    HealthFinding, HealthPart, HealthVerdict, HistoryEntry, HistoryKind, IconChoice, InboxAttempt,
    InboxEffect, InboxFilter, InboxOutcome, InboxRow, InboxState, LinkTo, MappingRow, MemberSignIn,
    ModuleRow, OnceShown, Priority, RoleChoice, SecretRow, SecretState, SessionRow, SourceRow, Time,
};
pub use texts::Texts;
pub use ui::{Theme, Ui};
