//! A real server on a loopback port: start, answer, drain, stop.

use crate::support::Api;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_stopping_server_finishes_what_is_in_flight_and_takes_no_more() {
    let api = Api::things().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = brainy::api::serve(api.brainy.clone(), listener, stop.clone());
    let client = async {
        // An import whose last line has not been sent yet is in flight.
        let mut stream = TcpStream::connect(address).await.unwrap();
        let line = "{\"id\": \"d\", \"vector\": [1, 1]}\n";
        let head = format!(
            "POST /v1/collections/things/import HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/x-ndjson\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            2 * line.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert!(go_on.starts_with(b"HTTP/1.1 100 Continue"), "the handler reads the body");
        stream.write_all(line.as_bytes()).await.unwrap();
        stop.cancel();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        stream.write_all(line.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\"imported\":2"), "{answer}");
    };
    let (served, ()) = tokio::join!(serving, client);
    served.unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_a_stopping_server() {
    let api =
        Api::with(crate::support::memory(), brainy::base::settings::Role::Hybrid, |settings| {
            settings.shutdown_timeout_ms = 50;
        })
        .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = brainy::api::serve(api.brainy.clone(), listener, stop.clone());
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = "POST /v1/collections/things/import HTTP/1.1\r\nhost: localhost\r\n\
                    expect: 100-continue\r\ncontent-length: 1000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        stop.cancel();
        stream
    };
    let (served, _stream) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(30), serving), client);
    served.expect("the bound holds").unwrap();
}

#[tokio::test]
async fn a_connection_that_is_cut_stores_the_lines_that_arrived() {
    let api = Api::things().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = brainy::api::serve(api.brainy.clone(), listener, stop.clone());
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let upload = "POST /v1/collections/things/import HTTP/1.1\r\nhost: localhost\r\n\
                      content-length: 1000\r\n\r\n{\"id\": \"d\", \"vector\": [1, 1]}\n{\"id\": ";
        stream.write_all(upload.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await;
        // Where the answer comes before the client is seen to be gone, it reports the fault.
        if !answer.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
            assert!(answer.contains("\"imported\":1"), "{answer}");
        }
        tokio::time::timeout(Duration::from_secs(30), async {
            while is_missing(&api).await {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the whole line is stored");
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, client);
    served.unwrap();
}

async fn is_missing(api: &Api) -> bool {
    api.get("/v1/collections/things/vectors/d").await.status == 404
}
