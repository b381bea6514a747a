//! Requests that cannot even be read are answered like all others: with the error as JSON.
//!
//! Hyper answers them by itself (400, 414, 431) with nothing in the body, and then ends the connection. Answers of
//! the routes always have a body with these statuses. So what starts as such an empty answer is replaced on its
//! way out.

use crate::api::error::ApiError;
use crate::api::linger::Unread;
use crate::base::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is wrong with a request that hyper has refused, by the beginning of its answer.
fn fault(answer: &[u8]) -> Option<Error> {
    let status = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    let message = match status.get(..4)? {
        b"400 " => {
            "the request is not valid HTTP/1.1; send it with an HTTP library, and over plain HTTP"
        }
        b"414 " => "the request's path and query are too long; send what is large in a body",
        b"431 " => "the request's headers are too many or too large; send fewer or smaller ones",
        _ => return None,
    };
    let head = std::str::from_utf8(answer).ok()?.to_ascii_lowercase();
    let empty = head.contains("\r\ncontent-length: 0\r\n") && head.ends_with("\r\n\r\n");
    empty.then(|| Error::invalid(message))
}

/// The whole answer in the place of an empty one.
fn full(answer: &[u8], error: Error) -> Vec<u8> {
    let body = ApiError(error).body();
    let line_end = answer.iter().position(|byte| *byte == b'\r').unwrap_or(answer.len());
    let mut full = answer[..line_end].to_vec();
    let head = format!(
        "\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    full.extend_from_slice(head.as_bytes());
    full.extend_from_slice(&body);
    full
}

/// A connection whose empty refusals become full ones.
pub(super) struct Told<S> {
    inner: S,
    unread: Unread,
    /// What is still to be written in the place of what hyper has written.
    instead: Vec<u8>,
    written: usize,
}

impl<S> Told<S> {
    /// One whose `unread` is told of what is refused.
    pub(super) fn new(inner: S, unread: Unread) -> Self {
        Told { inner, unread, instead: Vec::new(), written: 0 }
    }
}

impl<S: AsyncWrite + Unpin> Told<S> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.instead.len() {
            let rest = &self.instead[self.written..];
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.drain(cx))?;
        if let Some(error) = fault(bytes) {
            self.unread.refuse();
            self.instead = full(bytes, error);
            self.written = 0;
            // What does not go now goes when hyper flushes.
            if let Poll::Ready(Err(error)) = self.drain(cx) {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        match first.filter(|first| fault(first).is_some()) {
            Some(first) => self.poll_write(cx, first),
            None => {
                ready!(self.drain(cx))?;
                Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
