//! Somebody with a browser, for tests of pages.

use std::{collections::BTreeMap, sync::Mutex};

use chancery::testing::{Answer, TestApp};
use reqwest::{Method, header};

/// A browser with its cookies, on the application's own host.
pub struct Browser {
    http: reqwest::Client,
    origin: String,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    /// Signs in over Keycloak's page.
    pub async fn sign_in(app: &TestApp, username: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let origin = format!("http://{}", app.addresses().chancery);
        let browser = Self { http, origin, cookies: Mutex::default() };
        let departure = browser.get("/auth/login?return_to=/app").await;
        let page = browser.http.get(departure.header("location")).send().await.unwrap().text().await.unwrap();
        let action = page.split("action=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
        let chosen = browser.http.post(action).form(&[("username", username)]).send().await.unwrap();
        let back = chosen.headers()["location"].to_str().unwrap().replacen(&browser.origin, "", 1);
        let arrival = browser.get(&back).await;
        let checked = browser.get(&arrival.header("location").replacen(&browser.origin, "", 1)).await;
        assert_eq!(checked.header("location"), "/app");
        browser
    }

    /// A page.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// A form.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(Method::POST, path, Some(fields)).await
    }

    async fn send(&self, method: Method, path: &str, fields: Option<&[(&str, &str)]>) -> Answer {
        let cookies: Vec<String> =
            self.cookies.lock().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.origin))
            .header(header::ACCEPT, "text/html")
            .header(header::ORIGIN, &self.origin)
            .header(header::COOKIE, cookies.join("; "));
        if let Some(fields) = fields {
            request = request.form(fields);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for cookie in headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
        }
        Answer { status, headers, body: response.bytes().await.unwrap() }
    }
}
