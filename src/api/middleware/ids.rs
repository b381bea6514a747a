//! The ids of requests that clients choose: short and plain, or not taken.

use axum::extract::Request;
use axum::http::HeaderName;
use axum::middleware::Next;
use axum::response::Response;

/// The header that carries them.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ones are not taken: they go into every answer and log line.
const LENGTH_MAX: usize = 128;

/// Takes away an id that is too long or holds anything but letters, digits and a few marks; the request then gets
/// one of ours.
pub async fn vet(mut request: Request, next: Next) -> Response {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    let taken = request.headers().get(&REQUEST_ID).is_none_or(|id| {
        let id = id.as_bytes();
        (1..=LENGTH_MAX).contains(&id.len()) && id.iter().all(plain)
    });
    if !taken {
        request.headers_mut().remove(&REQUEST_ID);
    }
    next.run(request).await
}
