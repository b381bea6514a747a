//! A real server on a loopback port, and clients that hold what they opened.

use crate::support::{Api, memory};
use brainy::base::settings::{Role, Settings};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Longer than any limit in here: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    api: Api,
    address: SocketAddr,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Option<brainy::base::Result<()>>>,
}

impl Server {
    async fn start(change: impl FnOnce(&mut Settings)) -> Server {
        let api = Api::with(memory(), Role::Hybrid, |settings| {
            settings.shutdown_delay_ms = 0;
            change(settings);
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = brainy::api::serve(api.brainy.clone(), listener, stop.clone());
        let served = api.brainy.env().tasks.spawn("server", serving);
        Server { api, address, stop, served }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn ended(self) {
        let served = tokio::time::timeout(PATIENCE, self.served).await.expect("it ends");
        served.unwrap().unwrap().unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next answer, whose body has the length that it says.
    async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let whole = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            (body.len() >= length).then_some(text)
        };
        loop {
            if let Some(text) = whole(&bytes) {
                return text;
            }
            let mut buffer = [0; 4_096];
            let read = tokio::time::timeout(PATIENCE, self.0.read(&mut buffer));
            let count = read.await.expect("an answer comes").unwrap();
            assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&buffer[..count]);
        }
    }

    async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        self.answer().await
    }

    /// Begins an import and sends none of it; `false` where it is turned away.
    async fn begin_import(&mut self) -> bool {
        self.send(
            "POST /v1/collections/things/import HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
             content-length: 1000\r\n\r\n",
        )
        .await;
        self.answer().await.starts_with("HTTP/1.1 100 Continue")
    }

    /// Until the server closes it.
    async fn closed(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes));
        // A reset is an end, too.
        let _ = read.await.expect("it is closed");
        String::from_utf8(bytes).unwrap()
    }
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 OK")
}

#[tokio::test]
async fn imports_that_send_nothing_hold_nobody_else_and_end() {
    let server = Server::start(|settings| {
        settings.max_concurrent_requests = 4;
        settings.body_idle_timeout_ms = 3_000;
    })
    .await;
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        assert!(client.begin_import().await);
        stalled.push(client);
    }
    let mut third = server.connect().await;
    assert!(!third.begin_import().await, "streams have half of the places");
    let mut other = server.connect().await;
    assert!(is_ok(&other.get("/v1/collections").await), "the other half is for what ends");
    for client in &mut stalled {
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(
            answer.contains("\"body_timeout\"") && answer.contains("\"imported\":0"),
            "{answer}"
        );
    }
    let mut again = server.connect().await;
    assert!(again.begin_import().await, "their places are free again");
}

#[tokio::test]
async fn past_the_bound_idle_connections_make_room_and_busy_ones_do_not() {
    let server = Server::start(|settings| settings.max_connections = 2).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    assert!(is_ok(&first.get("/health/live").await) && is_ok(&second.get("/health/live").await));
    let mut third = server.connect().await;
    assert!(is_ok(&third.get("/health/live").await));
    assert_eq!(first.closed().await, "", "it was idle longest");
    assert!(second.begin_import().await && third.begin_import().await);
    let mut fourth = server.connect().await;
    let answer = fourth.closed().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"overloaded\""), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    drop(second);
    let metrics = server.api.brainy.env().metrics.clone();
    assert_eq!(metrics.http_connections_refused.get(), 1);
    while metrics.http_connections.get() > 1 {
        tokio::task::yield_now().await;
    }
    assert!(is_ok(&server.connect().await.get("/health/live").await));
}

#[tokio::test]
async fn headers_that_never_end_and_idle_connections_are_closed() {
    let server = Server::start(|settings| settings.idle_timeout_ms = 100).await;
    let (mut slow, mut silent, mut idle) =
        (server.connect().await, server.connect().await, server.connect().await);
    slow.send("GET /health/live HTTP/1.1\r\nhost: loca").await;
    assert!(is_ok(&idle.get("/health/live").await));
    for client in [&mut slow, &mut silent, &mut idle] {
        client.closed().await;
    }
    assert_eq!(server.api.brainy.env().metrics.http_connections.get(), 0);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let server = Server::start(|settings| settings.idle_timeout_ms = 200).await;
    let text = "x".repeat(500_000);
    for id in 0..40 {
        let record = serde_json::json!({"id": format!("{id}"), "vector": [1, 0], "text": text});
        let body = serde_json::json!({"vectors": [record]});
        server.api.post("/v1/collections/things/vectors", body).await.ok();
    }
    let mut client = server.connect().await;
    client.send("GET /v1/collections/things/export HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let metrics = server.api.brainy.env().metrics.clone();
    let given_up = async {
        while metrics.http_connections.get() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // The client holds its end open and reads nothing.
    tokio::time::timeout(PATIENCE, given_up).await.expect("it does not wait for ever");
}

#[tokio::test]
async fn a_server_that_stops_says_so_first_and_resets_nobody() {
    let server = Server::start(|settings| settings.shutdown_delay_ms = 2_000).await;
    let (mut kept, mut idle) = (server.connect().await, server.connect().await);
    assert!(is_ok(&kept.get("/health/ready").await) && is_ok(&idle.get("/health/live").await));
    let mut import = server.connect().await;
    assert!(import.begin_import().await);
    server.stop.cancel();
    // It is seen to be not ready, on connections old and new, and goes on answering.
    let answer = kept.get("/health/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("connection: close"), "{answer}");
    assert_eq!(kept.closed().await, "");
    let answer = server.connect().await.get("/v1/collections").await;
    assert!(is_ok(&answer) && answer.contains("connection: close"), "{answer}");
    assert_eq!(idle.closed().await, "", "what is idle is closed in the end");
    let line = "{\"id\": \"a\", \"vector\": [1, 1]}\n";
    import.send(&format!("{line}{}", " ".repeat(1_000 - line.len()))).await;
    let answer = import.closed().await;
    assert!(is_ok(&answer) && answer.contains("\"imported\":1"), "{answer}");
    server.ended().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_answered_as_json() {
    let server = Server::start(|_| {}).await;
    let long = "x".repeat(70_000);
    for (request, status) in [
        ("no http at all\r\n\r\n".to_owned(), "400"),
        (format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"), "414"),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(200)), "431"),
    ] {
        let mut client = server.connect().await;
        client.send(&request).await;
        let answer = client.closed().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        assert!(head.contains("content-type: application/json"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).expect(body);
        assert_eq!(body["error"]["code"], "invalid_request");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    }
    // An answer of a route passes as it is.
    let mut client = server.connect().await;
    assert!(is_ok(&client.get("/health/live").await));
    server.stop.cancel();
}

#[tokio::test]
async fn on_loopback_a_name_from_elsewhere_is_not_answered() {
    let server = Server::start(|_| {}).await;
    for (host, status) in [("evil.example", "403"), ("127.0.0.1", "200"), ("localhost:3000", "200")]
    {
        let mut client = server.connect().await;
        client.send(&format!("GET /health/live HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        let answer = client.answer().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
        assert_eq!(answer.contains("host_not_allowed"), status == "403");
    }
    server.stop.cancel();
}
