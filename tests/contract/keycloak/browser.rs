//! A browser as far as sign-in needs one: it keeps cookies, follows nothing, and fills in forms.

use std::collections::BTreeMap;

use connector_keycloak::fake::client::attribute;
use reqwest::{Client, Method, StatusCode, header, redirect::Policy};
use url::Url;

/// Cookies of one server, be they `Secure` or not: browsers send those to loopback over http, too.
#[derive(Debug, Default, Clone)]
pub struct Browser {
    cookies: BTreeMap<String, String>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub location: Option<Url>,
    pub body: String,
}

pub fn http() -> Client {
    Client::builder().redirect(Policy::none()).no_proxy().build().unwrap()
}

impl Browser {
    pub async fn get(&mut self, url: &str, query: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, Url::parse_with_params(url, query).unwrap().as_str(), None).await
    }

    /// Sends the page's form with these fields.
    pub async fn submit(&mut self, page: &Answer, fields: &[(&str, &str)]) -> Answer {
        let action = page.form_action().unwrap_or_else(|| panic!("no form: {} {}", page.status, page.body));
        self.send(Method::POST, &action, Some(fields)).await
    }

    async fn send(&mut self, method: Method, url: &str, form: Option<&[(&str, &str)]>) -> Answer {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let mut request = http().request(method, url).header(header::COOKIE, cookies);
        if let Some(form) = form {
            request = request.form(form);
        }
        let answer = request.send().await.unwrap();
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Answer {
            status: answer.status(),
            location: answer
                .headers()
                .get(header::LOCATION)
                .map(|url| url.to_str().unwrap().parse().unwrap()),
            body: answer.text().await.unwrap(),
        }
    }
}

impl Answer {
    fn form_action(&self) -> Option<String> {
        attribute(&self.body, "action")
    }

    /// Whether the page has a field of this name.
    pub fn asks_for(&self, field: &str) -> bool {
        self.status == StatusCode::OK && self.body.contains(&format!("name=\"{field}\""))
    }

    /// What the redirect carries.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        let location = self.location.as_ref();
        let location = location.unwrap_or_else(|| panic!("no redirect: {} {}", self.status, self.body));
        location.query_pairs().into_owned().collect()
    }
}
