//! The shell as a browser speaks to it.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, Version, header};
use chancery::testing::{ACME, TestApp};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

#[tokio::test]
async fn one_signs_in_over_http_2_which_sends_no_host_header() {
    let app = TestApp::start().await;
    let address = app.addresses().chancery;
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |authority: &str| {
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("http://{authority}/auth/login"))
            .version(Version::HTTP_2)
            .body(Body::empty())
            .unwrap();
        assert!(request.headers().get(header::HOST).is_none());
        sender.send_request(request).await.unwrap()
    };

    let departure = ask(&format!("localhost:{}", address.port())).await;
    assert_eq!(departure.version(), Version::HTTP_2);
    assert_eq!(departure.status(), StatusCode::SEE_OTHER);
    let location = departure.headers()[header::LOCATION].to_str().unwrap();
    let back = format!("redirect_uri=http%3A%2F%2Flocalhost%3A{}%2Fauth%2Fcallback", address.port());
    assert!(location.contains(&back), "{location}");

    assert_eq!(ask("evil.example").await.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn an_event_stream_over_http_2_leaves_the_connection_to_others() {
    let app = TestApp::start().await;
    let address = app.addresses().chancery;
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let ceo = app.ceo();
    let mut ask = async |path: &str| {
        let request = Request::builder()
            .uri(format!("http://{address}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", ceo.token()))
            .version(Version::HTTP_2)
            .body(Body::empty())
            .unwrap();
        sender.send_request(request).await.unwrap()
    };
    let mut events = ask(&format!("/api/v1/events?tenantId={ACME}")).await;
    assert_eq!(events.status(), StatusCode::OK);
    assert_eq!(events.headers().get(header::CONNECTION), None);
    let greeting = events.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(greeting.starts_with(b"retry: "), "{greeting:?}");
    assert_eq!(ask("/api/v1/me").await.status(), StatusCode::OK);
}
