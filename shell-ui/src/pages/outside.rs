//! The pages outside the frame: for those who aren't signed in, and for what went wrong.

use askama::Template;

use crate::chrome::initials;
use crate::{HealthPart, LinkTo, Time, Ui};

/// A page of its own for what went wrong.
#[derive(Debug, Clone, Template)]
#[template(path = "problem.html")]
pub struct ProblemPage {
    /// Texts and assets.
    pub ui: Ui,
    /// What went wrong.
    pub problem: Problem,
}

/// What went wrong, and the way on.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, in a few words.
    pub title: String,
    /// What that means and what to do.
    pub detail: String,
    /// The request's id, for support.
    pub request_id: Option<String>,
    /// The ways on: the first stands out.
    pub ways_on: Vec<LinkTo>,
}

impl Problem {
    /// The usual words for a status, with the way home. For other words, set `title` and `detail`.
    pub fn for_status(ui: &Ui, status: u16, request_id: Option<String>) -> Self {
        let known = match status {
            400 | 401 | 403 | 404 | 405 | 409 | 410 | 412 | 413 | 415 | 422 | 429 | 431 | 503 => status,
            402..500 => 400,
            _ => 500,
        };
        let way_on = if known == 401 {
            LinkTo { title: ui.t("sign-in"), href: "/auth/sign-in".into() }
        } else {
            LinkTo { title: ui.t("problem-home"), href: "/app".into() }
        };
        Self {
            status,
            title: ui.t(format!("problem-{known}")),
            detail: ui.t(format!("problem-{known}-detail")),
            request_id,
            ways_on: vec![way_on],
        }
    }
}

/// The page to sign in.
#[derive(Debug, Clone, Template)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// Texts and assets.
    pub ui: Ui,
    /// Where signing in begins: `/auth/login?return_to=…`.
    pub login_href: String,
    /// What went wrong the last time, already localised: texts `sign-in-…`.
    pub problem: Option<String>,
}

/// The page that a tool frames to learn whether somebody is signed in here, so that it may show our navigation.
#[derive(Debug, Clone, Template)]
#[template(path = "navigation.html")]
pub struct NavigationPage {
    /// Texts and assets.
    pub ui: Ui,
    /// The origins that are told, with spaces between them.
    pub origins: String,
    /// Whether somebody is.
    pub is_signed_in: bool,
}

/// The page of a server whose settings don't say yet who people are.
#[derive(Debug, Clone, Template)]
#[template(path = "setup.html")]
pub struct SetupPage {
    /// Texts and assets.
    pub ui: Ui,
    /// What was found, for who sits at the machine.
    pub parts: Vec<HealthPart>,
    /// When it was looked at; none where it isn't shown.
    pub checked: Option<Time>,
}

/// The page after signing out.
#[derive(Debug, Clone, Template)]
#[template(path = "signed_out.html")]
pub struct SignedOutPage {
    /// Texts and assets.
    pub ui: Ui,
    /// Where one signs in again.
    pub sign_in_href: String,
}

/// The page for a browser that didn't send our cookie back.
#[derive(Debug, Clone, Template)]
#[template(path = "cookie_blocked.html")]
pub struct CookieBlockedPage {
    /// Texts and assets.
    pub ui: Ui,
    /// Where one tries again.
    pub retry_href: String,
}

/// The demo's start page.
#[derive(Debug, Clone, Template)]
#[template(path = "demo.html")]
pub struct DemoPage {
    /// Texts and assets.
    pub ui: Ui,
    /// The people, each on a host name of their own.
    pub people: Vec<DemoPerson>,
    /// Opens the shell as the agent.
    pub agent_href: String,
    /// Opens the shell as the CEO.
    pub ceo_href: String,
    /// The page with the customer's widget and the agent's conversation.
    pub chatwoot_href: String,
    /// The page with the team's rooms.
    pub matrix_href: String,
    /// The page with the video rooms.
    pub jitsi_href: String,
    /// The page with the people and groups.
    pub keycloak_href: Option<String>,
}

/// A person of the demo.
#[derive(Debug, Clone)]
pub struct DemoPerson {
    /// The name to sign in with.
    pub user_name: String,
    /// The display name.
    pub name: String,
    /// What they are, in a few words.
    pub role: String,
    /// What one can try as them.
    pub description: String,
    /// Opens the shell on their own host name.
    pub href: String,
}

impl DemoPerson {
    fn initials(&self) -> String {
        initials(&self.name)
    }
}
