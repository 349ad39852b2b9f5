//! Modules that administrators add to the sidebar: a name, an icon, an address, and who sees it.
//!
//! A tenant's owners add some to their tenant; who runs the suite gives some to all tenants, or to those that are named. The modules
//! that are built in, pages of ours and the connected tools, are in the shell's registry (pages/modules.rs), which shows
//! both.
//!
//! An address is https, or http on this machine; it carries no user and no password. A module opens in a tab of its own, or inside a
//! page of ours, in a sandboxed frame whose origin must not be ours. Icons are the shell's own: a picture from elsewhere would
//! tell its server who looks at our pages, and would have to be let into the policy of all of them.
//!
//! Surface: the commands, each with its audit entry ([`create`], [`change`], [`remove`]; the caller commits); [`list`] and [`find`] for
//! who manages them, [`shown`] and [`shown_one`] for the shell.

mod model;
mod routes;
mod service;
mod store;

pub use model::{
    ChangeModule, ICONS, MAX_NAME, Module, ModuleFault, NewModule, Opens, is_framed, is_plain_address,
};
pub use routes::{problem, router};
pub use service::{ModuleError, change, create, find, list, remove, shown, shown_one};
