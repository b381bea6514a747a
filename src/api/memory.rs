//! What a request holds in memory: its body while it is read, and its answer until it is sent.
//!
//! A body takes its share of the instance's budget as it arrives, so that one that was only announced
//! holds nothing. An answer has taken its share when it was collected, and gives it back once it is sent
//! or the connection is gone.

use crate::api::{JSON, Reply};
use crate::base::memory::{FREE_BYTES, Reservation};
use crate::base::request::RequestContext;
use crate::base::{Code, Error, Result};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures::StreamExt;
use http_body::{Frame, SizeHint};
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Memory for each byte of a body: the bytes, and what they are parsed into.
const HELD_PER_BYTE: usize = 2;
/// A body that holds memory and sends nothing for so long is given up.
const STALL: Duration = Duration::from_secs(10);
/// Bytes of a piece of an answer.
const PIECE_BYTES: usize = 64 << 10;

/// Reads a body of up to `max` bytes; waits for memory in turn.
pub async fn read(body: Body, max: usize, held: &mut Reservation) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut stream = body.into_data_stream();
    loop {
        let next = tokio::time::timeout(STALL, stream.next()).await;
        let Some(piece) = next.map_err(|_| stalled())? else { return Ok(bytes) };
        let piece = piece.map_err(|error| broken_body(&error))?;
        if piece.len() > max - bytes.len() {
            return Err(too_large(max));
        }
        let needed = bytes.len() + piece.len();
        if needed > bytes.capacity() {
            // Doubled, so that few copies are made; the growth is paid for before it is there.
            let capacity =
                needed.max(2 * bytes.capacity()).min(max).max(FREE_BYTES / HELD_PER_BYTE);
            held.cover_in_turn(HELD_PER_BYTE * capacity).await?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
}

/// The error for a body of more than `max` bytes.
pub fn too_large(max: usize) -> Error {
    Error::new(
        Code::PayloadTooLarge,
        format!(
            "the body has more than max_body_bytes ({max}) bytes; send less at a time, or import"
        ),
    )
    .with("maxBytes", max)
}

fn stalled() -> Error {
    let seconds = STALL.as_secs();
    Error::new(
        Code::BodyTimeout,
        format!("no more of the body came for {seconds} seconds; send it again, without pauses"),
    )
}

/// A body that ended early, or that is not what its content-encoding says.
pub fn broken_body(error: &axum::Error) -> Error {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<tower_http::timeout::TimeoutError>() {
            return Error::new(
                Code::BodyTimeout,
                "nothing of the body arrived for body_idle_timeout_ms; send it without such pauses, or in \
                 several requests",
            );
        }
        reason = cause.to_string();
        source = cause.source();
    }
    Error::invalid(format!(
        "the body could not be read to its end ({reason}); send it again, complete and in the \
         content-encoding that the header names"
    ))
}

/// A JSON answer to a request that holds it until it is sent.
pub fn answer(context: RequestContext, body: &impl Serialize) -> Reply {
    let mut pieces = Pieces::default();
    serde_json::to_writer(&mut pieces, body).map_err(|error| {
        Error::internal("an answer could not be written as JSON").caused_by(error)
    })?;
    let body = match pieces.full.is_empty() {
        true => Body::from(pieces.last),
        false => Body::new(Answer::new(pieces, context)),
    };
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// An answer while it is written: in pieces, so that it is never copied to make room.
#[derive(Debug, Default)]
struct Pieces {
    full: VecDeque<Bytes>,
    last: Vec<u8>,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.last.extend_from_slice(bytes);
        if self.last.len() >= PIECE_BYTES {
            self.full.push_back(std::mem::take(&mut self.last).into());
            self.last.reserve(PIECE_BYTES);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer on its way out.
struct Answer {
    pieces: VecDeque<Bytes>,
    left: u64,
    _held: RequestContext,
}

impl Answer {
    fn new(Pieces { full: mut pieces, last }: Pieces, held: RequestContext) -> Answer {
        pieces.push_back(last.into());
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Answer { pieces, left, _held: held }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory::Budget;
    use crate::base::metrics::Gauge;
    use axum::body::to_bytes;
    use futures::stream;

    const MIB: usize = 1 << 20;

    fn pieces(count: usize) -> Body {
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        let pieces = (0..count).map(move |_| Ok::<_, Infallible>(piece.clone()));
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn many_bodies_never_hold_more_than_the_budget_and_all_end_soon() {
        let budget = Budget::new(4 * MIB, Gauge::default());
        let start = tokio::time::Instant::now();
        let bodies = (0..50).map(|_| async {
            let mut held = budget.reserve();
            let read = read(pieces(16), MIB, &mut held).await;
            // What was read is worked on for a while.
            tokio::time::sleep(Duration::from_millis(100)).await;
            read.map(|bytes| bytes.len()).map_err(|error| error.code())
        });
        let outcomes = futures::future::join_all(bodies).await;
        assert!(budget.peak_bytes() <= 4 * MIB && budget.held_bytes() == 0);
        assert!(start.elapsed() < 3 * crate::base::memory::WAIT, "{:?}", start.elapsed());
        let read = outcomes.iter().filter(|outcome| **outcome == Ok(MIB)).count();
        assert!(read > 0, "{outcomes:?}");
        assert!(outcomes.iter().all(|one| matches!(one, Ok(MIB) | Err(Code::Overloaded))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_lets_go_and_one_that_is_announced_holds_nothing() {
        let budget = Budget::new(4 * MIB, Gauge::default());
        let mut held = budget.reserve();
        let some = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![0; 256 << 10]))]);
        let stalls = Body::from_stream(some.chain(stream::pending()));
        let error = read(stalls, MIB, &mut held).await.unwrap_err();
        assert_eq!(error.code(), Code::BodyTimeout);
        assert!(budget.held_bytes() > 0);
        drop(held);
        assert_eq!(budget.held_bytes(), 0);
        let mut held = budget.reserve();
        let small = read(Body::from("x".repeat(1_000)), MIB, &mut held).await.unwrap();
        assert_eq!((small.len(), budget.held_bytes()), (1_000, 0));
    }

    #[tokio::test]
    async fn an_answer_is_held_until_it_is_sent() {
        let budget = Budget::new(16 * MIB, Gauge::default());
        let context = RequestContext::new(&budget, 8 * MIB, None);
        context.charge(MIB).unwrap();
        let text = "x".repeat(MIB - 2);
        let answer = answer(context, &text).unwrap();
        assert_eq!(answer.body().size_hint().exact(), Some(MIB as u64));
        assert!(budget.held_bytes() > 0);
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), text);
        assert_eq!(budget.held_bytes(), 0);
    }
}
