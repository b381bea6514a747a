//! The end of a connection over which a client still sends.
//!
//! A request may be answered before all of its body has come: it is too long, of another type, or there is no
//! room for it. To close with bytes unread makes the machine reset the connection, and whatever the client has
//! not read of the answer is lost with it; most clients send all of a body before they read. So the answer is
//! followed by the end of our side alone, and what still comes is read and dropped, until the client ends its
//! side or has sent too much for too long. It is so for every answer, because it is the connection that sees
//! to it.

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// How much is read and dropped: more than any body of which somebody waits for the answer.
const BYTES_MAX: u64 = 1 << 30;
/// For how long.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How long a client that has read the answer may take to end, or one that sends may pause.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Whether something of the last request of a connection was not read.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Of a request of which nothing was read.
    pub(super) fn all() -> Unread {
        Unread(Arc::new(AtomicBool::new(true)))
    }

    /// Of a request that cannot even be read.
    pub(super) fn refuse(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether there is any.
    pub(super) fn is_some(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The body of the next request, which tells.
    pub(super) fn watch(&self, body: Incoming) -> WatchedBody {
        self.0.store(false, Ordering::Relaxed);
        WatchedBody { body, ended: false, unread: self.clone() }
    }
}

/// A body that tells whether it was read to its end.
#[derive(Debug)]
pub(super) struct WatchedBody {
    body: Incoming,
    ended: bool,
    unread: Unread,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        let all = self.ended || self.body.is_end_stream();
        self.unread.0.store(!all, Ordering::Relaxed);
    }
}

/// A stream that is closed only once the other side has had time to read what it was told.
#[derive(Debug)]
pub(super) struct Lingering<S> {
    stream: S,
    unread: Unread,
    /// Cancelled where its place is needed.
    enough: CancellationToken,
    end: End,
}

#[derive(Debug)]
enum End {
    Open,
    Reading { left: u64, until: Instant, pause: Pin<Box<Sleep>> },
    Done,
}

impl<S> Lingering<S> {
    /// One that lingers where something of the last request is unread when it is closed.
    pub(super) fn new(stream: S, unread: Unread, enough: CancellationToken) -> Self {
        Lingering { stream, unread, enough, end: End::Open }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.end {
                End::Done => return Poll::Ready(Ok(())),
                End::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                    this.end = match this.unread.is_some() {
                        true => {
                            let (until, pause) = (Instant::now() + TIME_MAX, sleep(IDLE_MAX));
                            End::Reading { left: BYTES_MAX, until, pause: Box::pin(pause) }
                        }
                        false => End::Done,
                    };
                }
                End::Reading { left, until, pause } => {
                    let mut space = [0; PIECE_BYTES];
                    let mut piece = ReadBuf::new(&mut space);
                    let read = Pin::new(&mut this.stream).poll_read(context, &mut piece);
                    let (count, now) = (piece.filled().len() as u64, Instant::now());
                    match read {
                        Poll::Ready(Ok(())) if count > 0 => {
                            *left = left.saturating_sub(count);
                            pause.as_mut().reset((now + IDLE_MAX).min(*until));
                        }
                        // The client has ended its side, or is gone.
                        Poll::Ready(_) => *left = 0,
                        Poll::Pending => {
                            ready!(pause.as_mut().poll(context));
                            *left = 0;
                        }
                    }
                    if *left == 0 || now >= *until || this.enough.is_cancelled() {
                        this.end = End::Done;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// How long it takes to close a stream on which the other side does this.
    async fn closed_after(
        unread: Unread,
        other: impl AsyncFnOnce(tokio::io::DuplexStream),
    ) -> Duration {
        let (near, far) = duplex(1_024);
        let mut stream = Lingering::new(near, unread, CancellationToken::new());
        let start = Instant::now();
        let close = async {
            stream.write_all(b"answer").await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream);
            start.elapsed()
        };
        tokio::join!(close, other(far)).0
    }

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_is_read_until_it_ends_pauses_or_takes_too_long() {
        let none = closed_after(Unread::default(), async |_far| {}).await;
        assert_eq!(none, Duration::ZERO, "everything was read");
        let sends = closed_after(Unread::all(), async |mut far| {
            far.write_all(&[0; 100_000]).await.unwrap();
            let mut answer = String::new();
            far.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "answer");
        });
        assert_eq!(sends.await, Duration::ZERO, "it ended");
        let stays = closed_after(Unread::all(), async |_far| sleep(TIME_MAX).await);
        assert_eq!(stays.await, IDLE_MAX);
        let trickles = closed_after(Unread::all(), async |mut far| {
            while far.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(trickles.await, TIME_MAX);
    }
}
