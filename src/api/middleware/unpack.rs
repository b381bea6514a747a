//! Bodies that come compressed.
//!
//! Whoever compresses says how far back its copies reach, and the reader has to keep as much. RFC 9659
//! allows 8 MiB for `zstd` over HTTP; the library by itself would take 128.

use crate::api::error::ApiError;
use crate::base::{Code, Error};
use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use std::io;
use tokio_util::io::{ReaderStream, StreamReader};

/// The encodings that are understood.
const ENCODINGS: HeaderValue = HeaderValue::from_static("zstd,gzip");
/// The binary logarithm of the largest window of zstd.
const WINDOW_LOG_MAX: u32 = 23;
/// Bytes that a decoder keeps at most.
pub const DECODER_BYTES: usize = 1 << WINDOW_LOG_MAX;
/// Bytes of a piece of what comes out.
const PIECE_BYTES: usize = 32 << 10;

/// Marks a request whose body is being decompressed.
#[derive(Debug, Clone, Copy)]
pub struct Unpacked;

/// Decompresses the body of a request, as it is read.
pub async fn unpack(mut request: Request, next: Next) -> Response {
    let encoding = request.headers().get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    let gzip = match encoding {
        None | Some(b"identity") => return next.run(request).await,
        Some(b"gzip") => true,
        Some(b"zstd") => false,
        Some(_) => return not_supported(),
    };
    let body = std::mem::take(request.body_mut()).into_data_stream();
    let reader = StreamReader::new(body.map_err(io::Error::other));
    *request.body_mut() = if gzip {
        let mut decoder = GzipDecoder::new(reader);
        decoder.multiple_members(true);
        Body::from_stream(ReaderStream::with_capacity(decoder, PIECE_BYTES))
    } else {
        let window = DParameter::window_log_max(WINDOW_LOG_MAX);
        let mut decoder = ZstdDecoder::with_params(reader, &[window]);
        decoder.multiple_members(true);
        Body::from_stream(ReaderStream::with_capacity(decoder, PIECE_BYTES))
    };
    request.headers_mut().remove(header::CONTENT_ENCODING);
    // It is that of what was sent.
    request.headers_mut().remove(header::CONTENT_LENGTH);
    request.extensions_mut().insert(Unpacked);
    next.run(request).await
}

fn not_supported() -> Response {
    let error = Error::new(
        Code::UnsupportedMediaType,
        "the body's content-encoding is not supported; use gzip, zstd or none",
    );
    let mut response = ApiError(error).into_response();
    response.headers_mut().insert(header::ACCEPT_ENCODING, ENCODINGS);
    response
}
