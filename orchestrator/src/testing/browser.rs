#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that can't go on panics"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::http::{Method, header};
use connector_keycloak::fake::client::{Filled, fill_in};
use reqwest::RequestBuilder;
use url::Url;

use super::client::{Answer, EventStream};

/// Somebody's browser at the shell: keeps its cookies, sends `Origin` with forms, and follows no redirect by itself.
#[derive(Debug, Clone)]
pub struct Browser {
    http: reqwest::Client,
    /// `http://127.0.0.1:4711`
    origin: String,
    cookies: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Browser {
    pub(super) fn new(http: reqwest::Client, origin: String) -> Self {
        Self { http, origin, cookies: Arc::default() }
    }

    /// The same browser at another replica.
    #[must_use]
    pub fn at(&self, origin: &str) -> Self {
        Self { origin: origin.to_owned(), ..self.clone() }
    }

    /// Another browser that has the cookies which this one has now.
    #[must_use]
    pub fn copied(&self) -> Self {
        let cookies = self.cookies.lock().unwrap().clone();
        Self { cookies: Arc::new(Mutex::new(cookies)), ..self.clone() }
    }

    /// Where the shell is.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// A cookie's value.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().unwrap().get(name).cloned()
    }

    /// Puts a cookie into the browser.
    pub fn set_cookie(&self, name: &str, value: &str) {
        self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    /// A request to a path of the shell, or to an address elsewhere, which gets no cookies; to be given to
    /// [`Browser::send`].
    pub fn request(&self, method: Method, address: &str) -> RequestBuilder {
        let url = Url::parse(&self.origin).unwrap().join(address).unwrap();
        let is_ours = url.origin().ascii_serialization() == self.origin;
        let mut request = self.http.request(method, url).header(header::ACCEPT, "text/html");
        if is_ours {
            let cookies = self.cookies.lock().unwrap();
            let cookies: Vec<String> =
                cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        request
    }

    /// Sends a request, and keeps what the shell sets.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("the server answers");
        let is_ours = response.url().origin().ascii_serialization() == self.origin;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for cookie in headers.get_all(header::SET_COOKIE).iter().filter(|_| is_ours) {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            let mut cookies = self.cookies.lock().unwrap();
            if attributes.contains("Max-Age=0") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Answer { status, headers, body: response.bytes().await.expect("the answer has an end") }
    }

    /// `GET`
    pub async fn get(&self, address: &str) -> Answer {
        self.send(self.request(Method::GET, address)).await
    }

    /// `POST` of a form, as a page of ours sends it.
    pub async fn post(&self, address: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, address).header(header::ORIGIN, &self.origin).form(form);
        self.send(request).await
    }

    /// Opens an event stream of the shell.
    pub async fn events(&self, address: &str) -> EventStream {
        let response = self.request(Method::GET, address).send().await.expect("the application answers");
        assert_eq!(response.status().as_u16(), 200);
        EventStream::of(response)
    }

    /// Signs in as this user: to Keycloak's page and back, until the shell leads on. Gives the path that it leads to.
    pub async fn sign_in(&self, username: &str) -> String {
        self.sign_in_from("/auth/login", username).await
    }

    /// The same from an address that leads to Keycloak.
    pub async fn sign_in_from(&self, address: &str, username: &str) -> String {
        let back = self.leave_and_come_back(address, username).await;
        let arrived = self.get(&back).await;
        assert_eq!(arrived.status, 303, "{}", String::from_utf8_lossy(&arrived.body));
        let checked = self.get(arrived.header("location")).await;
        assert_eq!(checked.status, 303);
        checked.header("location").to_owned()
    }

    /// Goes to Keycloak, picks this user there, and gives the address that Keycloak leads back to.
    pub async fn leave_and_come_back(&self, address: &str, username: &str) -> String {
        let left = self.get(address).await;
        assert_eq!(left.status, 303, "{}", String::from_utf8_lossy(&left.body));
        self.at_keycloak(left.header("location"), username).await
    }

    /// Keycloak's pages: picks this user, gives the one-time code where one is asked for, and gives the address that Keycloak
    /// leads back to.
    pub async fn at_keycloak(&self, address: &str, username: &str) -> String {
        let mut page = self.get(address).await;
        while page.status == 200 {
            let html = String::from_utf8_lossy(&page.body).into_owned();
            let filled = fill_in(&html, username).unwrap_or_else(|| panic!("nothing to fill in: {html}"));
            let Filled { action, field } = filled;
            page = self.send(self.request(Method::POST, &action).form(&[field])).await;
        }
        assert_eq!(page.status, 302, "{}", String::from_utf8_lossy(&page.body));
        page.header("location").to_owned()
    }
}
