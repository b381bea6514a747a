//! A TCP proxy that can cut its two sides off from each other, as a network does: nothing is refused,
//! nothing comes through.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are passed on.
    Pass,
    /// They stay open, and nothing comes through.
    Cut,
    /// Each request is answered with `503 SlowDown`, as S3 does to who asks too much.
    Throttle,
}

/// A proxy on a free port, until it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Passes connections on to `upstream`: `http://HOST:PORT`.
    pub async fn start(upstream: &str) -> Proxy {
        let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        let mode = watch::Sender::new(Mode::Pass);
        let modes = mode.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("connections can be accepted");
                connections.spawn(connection(client, upstream.clone(), modes.clone()));
            }
        });
        Proxy { address, mode, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// One connection. It ends when the mode changes again after it was cut off, or throttled.
async fn connection(mut client: TcpStream, upstream: String, mut modes: watch::Receiver<Mode>) {
    let mode = *modes.borrow_and_update();
    match mode {
        Mode::Pass => {
            let Ok(mut server) = TcpStream::connect(upstream).await else { return };
            tokio::select! {
                biased;
                // What is in flight is lost on the way; both sides wait.
                _ = modes.changed() => {
                    if *modes.borrow() == Mode::Cut {
                        let _ = modes.wait_for(|mode| *mode != Mode::Cut).await;
                    }
                }
                // Either side may hang up whenever it likes.
                _ = copy_bidirectional(&mut client, &mut server) => {}
            }
        }
        Mode::Cut => {
            // Fails when the proxy is gone, which is as good.
            let _ = modes.wait_for(|mode| *mode != Mode::Cut).await;
        }
        Mode::Throttle => refuse(&mut client).await,
    }
}

/// Reads the head of a request, and answers it.
async fn refuse(client: &mut TcpStream) {
    let body = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code>\
                <Message>Please reduce your request rate.</Message></Error>";
    let (mut head, mut part) = (Vec::new(), [0; 4_096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut part).await {
            Ok(count) if count > 0 => head.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
    let answer = format!(
        "HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    // The client may have hung up.
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
}
