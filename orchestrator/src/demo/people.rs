//! The people of the demo, as the realm file has them.

use super::Addresses;
use crate::pages;

/// A person of the demo.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    /// The name to sign in with.
    pub username: &'static str,
    /// The display name.
    pub name: &'static str,
    /// The host on which the demo opens them: cookies belong to a host, so that one browser can be several people.
    pub host: &'static str,
}

/// Everybody, in the order of the story.
pub const PEOPLE: [Person; 6] = [
    Person { username: "acme-agent", name: "Ada Agent", host: "127.0.0.1" },
    Person { username: "acme-ceo", name: "Carla Chief", host: "localhost" },
    Person { username: "acme-viewer", name: "Victor Viewer", host: "acme-viewer.localhost" },
    Person { username: "engineer", name: "Erin Engineer", host: "engineer.localhost" },
    Person { username: "suite-admin", name: "Sam Suite", host: "suite-admin.localhost" },
    Person { username: "outsider", name: "Oscar Outsider", host: "outsider.localhost" },
];

/// Where a person's shell opens, signed out or in.
fn opens(addresses: &Addresses, person: &Person) -> String {
    format!("http://{}:{}/auth/login?login_hint={}", person.host, addresses.chancery.port(), person.username)
}

/// What the start page shows.
pub(super) fn start_page(addresses: &Addresses) -> pages::StartPage {
    pages::StartPage {
        people: PEOPLE
            .iter()
            .map(|person| pages::StartPerson {
                username: person.username.to_owned(),
                name: person.name.to_owned(),
                href: opens(addresses, person),
            })
            .collect(),
        agent_href: opens(addresses, &PEOPLE[0]),
        ceo_href: opens(addresses, &PEOPLE[1]),
        chatwoot_href: addresses.url(addresses.chatwoot),
        matrix_href: addresses.url(addresses.matrix),
        jitsi_href: addresses.url(addresses.jitsi),
    }
}
