use askama::Template;

use crate::{Chrome, FieldErrors, IconChoice, ModuleRow, RoleChoice, Time};

/// The modules of a tenant's sidebar, or those that the suite gives to its tenants.
#[derive(Debug, Clone, Template)]
#[template(path = "modules.html")]
pub struct ModulesPage {
    /// The frame.
    pub chrome: Chrome,
    /// Whether it is the suite's page.
    pub is_suite: bool,
    /// Those that can be changed here.
    pub own: Vec<ModuleRow>,
    /// Those that the suite gives, on a tenant's page.
    pub of_suite: Vec<ModuleRow>,
    /// The tools of the settings.
    pub tools: Vec<ModuleRow>,
    /// When the tools were looked at.
    pub checked: Time,
    /// Where more is said of how they are, for who may see it.
    pub health_href: Option<String>,
}

/// The form for a module, new or to be changed.
#[derive(Debug, Clone, Template)]
#[template(path = "module_form.html")]
pub struct ModuleFormPage {
    /// The frame.
    pub chrome: Chrome,
    /// The module's UUID and version, sent back with a change; none for a new one.
    pub module: Option<(String, u64)>,
    /// Whether it is one of the suite's.
    pub is_suite: bool,
    /// What it is called; required.
    pub name: String,
    /// Where it is; required.
    pub url: String,
    /// The icons to choose from.
    pub icons: Vec<IconChoice>,
    /// Whether it is shown inside a page of the shell.
    pub embedded: bool,
    /// The roles; everybody sees it where none is ticked.
    pub roles: Vec<RoleChoice>,
    /// To which tenants the suite gives it, a path or UUID a line; all where it is empty.
    pub tenants: String,
    /// What is wrong: `name`, `url`, `icon`, `tenants`.
    pub errors: FieldErrors,
}
