//! The modules of the sidebar, as who manages them sees them.

use super::health::HealthVerdict;

/// A module of the sidebar.
#[derive(Debug, Clone)]
pub struct ModuleRow {
    /// Its UUID, where it can be changed here.
    pub id: Option<String>,
    /// What it is called.
    pub name: String,
    /// An icon's name.
    pub icon: String,
    /// Where it is; empty where it isn't connected.
    pub url: String,
    /// Whether it is shown inside a page of the shell.
    pub embedded: bool,
    /// Who sees it, by their roles, already localised; everybody where there is none.
    pub roles: Vec<String>,
    /// To which tenants the suite gives it, by their paths; all where there is none.
    pub tenants: Vec<String>,
    /// How it was when it was last looked at; none where nobody looks.
    pub health: Option<HealthVerdict>,
}

/// One of several that can be chosen, with a picture.
#[derive(Debug, Clone)]
pub struct IconChoice {
    /// The icon's name.
    pub value: String,
    /// What it shows, in words.
    pub label: String,
    /// Whether it is chosen.
    pub chosen: bool,
}

/// A role that can be ticked.
#[derive(Debug, Clone)]
pub struct RoleChoice {
    /// Its name.
    pub value: String,
    /// What people call it.
    pub label: String,
    /// Whether it is ticked.
    pub chosen: bool,
}
