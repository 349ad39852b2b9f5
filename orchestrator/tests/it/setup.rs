//! A server whose settings say nothing yet, and one that is asked whether it is ready.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use chancery::{
    clock::{Clock as _, SystemClock},
    testing::TestApp,
};

fn chancery(arguments: &[&str], listen: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.args(arguments).env_clear().env("CHANCERY__HTTP__LISTEN", listen.to_string());
    command.env("CHANCERY__LOG__FILTER", "error");
    command
}

/// A server that is stopped at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn serve_without_settings(public_url: Option<&str>) -> (Server, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = chancery(&["serve"], address);
    command.env("CHANCERY__MATRIX__AS_TOKEN", "a-secret-of-the-settings");
    command.envs(public_url.map(|url| ("CHANCERY__HTTP__PUBLIC_URL", url)));
    let server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let begun = Instant::now();
    while reqwest::get(format!("http://{address}/health")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the server doesn't listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (server, address)
}

async fn health(address: SocketAddr) -> Output {
    tokio::task::spawn_blocking(move || chancery(&["health"], address).output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn where_nothing_is_configured_one_lands_on_what_is_missing() {
    let (_server, address) = serve_without_settings(None).await;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let page = http.get(format!("http://{address}/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert_eq!(page.headers()["cache-control"], "no-store");
    let page = page.text().await.unwrap();
    for text in [
        "keycloak.url is missing",
        "database.url or database.worker_url is missing",
        "To mend it:",
        "Doesn’t work",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("a-secret-of-the-settings"), "{page}");
    // Its styles are there.
    let style = page
        .split("href=\"")
        .find(|part| part.starts_with("/assets/app."))
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert_eq!(http.get(format!("http://{address}{style}")).send().await.unwrap().status(), 200);

    // Whoever comes by a proxy, or from a page elsewhere whose name leads here, learns nothing of it.
    for (name, value) in [("x-forwarded-for", "203.0.113.9"), ("host", "evil.example")] {
        let page = http.get(format!("http://{address}/")).header(name, value).send().await.unwrap();
        assert_eq!(page.status(), 200);
        let page = page.text().await.unwrap();
        assert!(page.contains("isn’t set up yet") && !page.contains("keycloak.url"), "{name}: {page}");
    }

    // Browsers are led there; programs are told, and nobody takes the server for one that is ready.
    let led = http.get(format!("http://{address}/app")).header("accept", "text/html").send().await.unwrap();
    assert_eq!((led.status().as_u16(), led.headers()["location"].to_str().unwrap()), (303, "/"));
    for path in ["/ready", "/api/v1/me", "/auth/sign-in"] {
        let told = http.get(format!("http://{address}{path}")).send().await.unwrap();
        assert_eq!(told.status(), 503, "{path}");
        assert_eq!(told.json::<serde_json::Value>().await.unwrap()["code"], "not_set_up");
    }
    let asked = health(address).await;
    assert!(!asked.status.success());
    assert!(String::from_utf8_lossy(&asked.stderr).contains("is not ready"), "{asked:?}");
}

#[tokio::test]
async fn behind_a_public_address_nobody_learns_what_is_missing() {
    let (_server, address) = serve_without_settings(Some("https://chancery.example.org")).await;
    // As a proxy on this machine may ask for anybody: by the address that it reaches us at, and without a header of its own.
    let page = reqwest::get(format!("http://{address}/")).await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains("isn’t set up yet") && !page.contains("keycloak.url"), "{page}");
}

#[tokio::test]
async fn the_binary_asks_a_server_whether_it_is_ready() {
    let app = TestApp::start().await;
    // The database's clock and ours agree.
    app.clock().set(SystemClock.now());
    let asked = health(app.addresses().chancery).await;
    assert!(asked.status.success(), "{asked:?}");
    assert_eq!(asked.stdout, b"ready\n");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(!health(nobody).await.status.success());
}
