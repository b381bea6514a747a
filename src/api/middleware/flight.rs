//! How many requests are under way: from their head until the last of their answer is sent.

use crate::base::metrics::Metrics;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Counts as a request under way until it is dropped, also where the client has gone.
#[derive(Debug)]
pub struct UnderWay(Arc<Metrics>);

impl UnderWay {
    /// One that begins.
    pub fn begin(metrics: Arc<Metrics>) -> UnderWay {
        metrics.http_in_flight.inc();
        UnderWay(metrics)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.http_in_flight.dec();
    }
}

/// The answer, which is under way until it is sent.
pub fn until_sent(response: Response, under_way: UnderWay) -> Response {
    response.map(|body| Body::new(Sent { body, _under_way: under_way }))
}

struct Sent {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
