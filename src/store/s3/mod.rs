//! A store in a bucket of S3, or of a server that speaks its protocol.
//!
//! On `object_store`, with everything that would act on its own switched off: no retries, no
//! redirects, no multipart uploads, one request per call (listings of folders take as many pages
//! as there are). `fault` decides what a failed request came to.

mod connect;
mod fault;
mod open;

pub(in crate::store) use connect::time_of;
pub(in crate::store) use fault::element;
pub use open::open;

use crate::base::{Error, Result};
use crate::store::aws::Credentials;
use crate::store::layers::timeout::progressed;
use crate::store::{
    ByteRange, Etag, Fetched, GetOptions, Key, Listed, Listing, Object, Precondition, Prefix,
    PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use fault::{Fault, fault};
use futures::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetRange, ObjectStore, ObjectStoreExt, PutMode, PutResult, UpdateVersion};
use std::sync::Arc;

/// The most keys that S3 lists at a time.
const PAGE_MAX: usize = 1000;
/// Memory that is set aside for a body before it has come.
const RESERVED_MAX: usize = 256 << 20;
/// How often a listing may turn out empty although there is more, before we give up on it.
const EMPTY_PAGES_MAX: usize = 1000;

/// Objects in a bucket, behind a prefix.
#[derive(Debug)]
pub struct S3Store {
    client: AmazonS3,
    credentials: Arc<Credentials>,
    /// Empty, or ends in `/`.
    root: String,
}

impl S3Store {
    fn path(&self, key: &Key) -> Result<Path, Fault> {
        Path::parse(format!("{}{key}", self.root)).map_err(|error| Fault::BadKey(error.to_string()))
    }

    /// What `failed` came to. Credentials that the store calls expired are asked for again at the
    /// next request.
    async fn fault(&self, failed: &object_store::Error) -> Fault {
        let fault = fault(failed);
        if fault.is_expired() {
            self.credentials.forget().await;
        }
        fault
    }

    async fn error(&self, failed: &object_store::Error, what: &str) -> Error {
        self.fault(failed).await.error(what)
    }

    async fn fetch(
        &self,
        path: &Path,
        options: object_store::GetOptions,
        what: &str,
    ) -> Result<Answer> {
        let result = match self.client.get_opts(path, options).await {
            Ok(result) => result,
            Err(failed) => {
                let fault = self.fault(&failed).await;
                return match fault.status() {
                    304 => Ok(Answer::Unmodified),
                    416 => Ok(Answer::Unsatisfiable),
                    404 if fault.is_missing_key() => Ok(Answer::Missing),
                    _ => Err(fault.error(what)),
                };
            }
        };
        let (size, range) = (result.meta.size, result.range.clone());
        let Some(etag) = result.meta.e_tag.clone() else {
            return Err(Error::unavailable(format!(
                "the store answered the {what} without an etag; use a server that sends one"
            )));
        };
        Ok(Answer::Found {
            etag: Etag(etag.into()),
            size,
            expected: range.end - range.start,
            body: Box::new(result),
        })
    }

    /// The object's size and etag: what a range that holds no byte is answered with.
    async fn head(&self, path: &Path, options: &GetOptions, what: &str) -> Result<Fetched> {
        let head = object_store::GetOptions {
            if_none_match: etag_text(options),
            head: true,
            ..Default::default()
        };
        Ok(match self.fetch(path, head, what).await? {
            Answer::Unmodified => Fetched::Unmodified,
            Answer::Missing | Answer::Unsatisfiable => Fetched::Missing,
            Answer::Found { etag, size, .. } => {
                Fetched::Found(Object { bytes: Bytes::new(), etag, size, mapped: false })
            }
        })
    }

    async fn send(
        &self,
        key: &Key,
        body: Bytes,
        mode: PutMode,
    ) -> std::result::Result<Etag, Fault> {
        let path = self.path(key)?;
        match self.client.put_opts(&path, body.into(), mode.into()).await {
            Ok(PutResult { e_tag: Some(etag), .. }) => Ok(Etag(etag.into())),
            Ok(_) => Err(Fault::Unknown("the answer has no etag".to_owned())),
            Err(failed) => Err(self.fault(&failed).await),
        }
    }

    async fn page(
        &self,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        match self.client.list_paginated(Some(prefix), options).await {
            Ok(page) => Ok(page),
            Err(failed) => Err(self.error(&failed, &format!("listing of {prefix:?}")).await),
        }
    }
}

/// The answer to a GET.
enum Answer {
    Found {
        etag: Etag,
        size: u64,
        expected: u64,
        body: Box<object_store::GetResult>,
    },
    Unmodified,
    Missing,
    /// The range holds no byte of the object.
    Unsatisfiable,
}

/// All of a body; tells of each piece that comes.
async fn received(
    body: object_store::GetResult,
    expected: u64,
) -> std::result::Result<Bytes, object_store::Error> {
    let mut pieces = body.into_stream();
    let Some(first) = pieces.try_next().await? else { return Ok(Bytes::new()) };
    progressed(first.len());
    if first.len() as u64 >= expected {
        return Ok(first);
    }
    // What a server claims is not reserved at once.
    let room = usize::try_from(expected).unwrap_or(0).min(RESERVED_MAX);
    let mut bytes = BytesMut::with_capacity(room.max(first.len()));
    bytes.extend_from_slice(&first);
    while let Some(piece) = pieces.try_next().await? {
        progressed(piece.len());
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn etag_text(options: &GetOptions) -> Option<String> {
    options.if_none_match.as_ref().map(|etag| etag.0.to_string())
}

#[async_trait]
impl Store for S3Store {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let what = format!("get of {key}");
        let path = self.path(key).map_err(|fault| fault.error(&what))?;
        let range = match &options.range {
            None => None,
            // HTTP cannot ask for nothing.
            Some(ByteRange::Suffix(0)) => return self.head(&path, &options, &what).await,
            Some(ByteRange::Bounded(range)) if range.is_empty() => {
                return self.head(&path, &options, &what).await;
            }
            Some(ByteRange::Bounded(range)) => Some(GetRange::Bounded(range.clone())),
            Some(ByteRange::Suffix(length)) => Some(GetRange::Suffix(*length)),
        };
        let request = object_store::GetOptions {
            range,
            if_none_match: etag_text(&options),
            ..Default::default()
        };
        match self.fetch(&path, request, &what).await? {
            Answer::Unmodified => Ok(Fetched::Unmodified),
            Answer::Missing => Ok(Fetched::Missing),
            Answer::Unsatisfiable => self.head(&path, &options, &what).await,
            Answer::Found { etag, size, expected, body } => {
                let bytes = match received(*body, expected).await {
                    Ok(bytes) => bytes,
                    Err(failed) => return Err(self.error(&failed, &what).await),
                };
                if bytes.len() as u64 != expected {
                    let came = bytes.len();
                    return Err(Error::unavailable(format!(
                        "the {what} brought {came} of {expected} bytes; try again"
                    )));
                }
                Ok(Fetched::Found(Object { bytes, etag, size, mapped: false }))
            }
        }
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.send(key, body, PutMode::Overwrite)
            .await
            .map_err(|fault| fault.error(&format!("put of {key}")))
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let mode = match &condition {
            Precondition::Absent => PutMode::Create,
            Precondition::Matches(etag) => {
                PutMode::Update(UpdateVersion { e_tag: Some(etag.0.to_string()), version: None })
            }
        };
        match self.send(key, body, mode).await {
            Ok(etag) => PutOutcome::Won(etag),
            Err(fault) => fault.outcome(&format!("conditional put of {key}"), &condition),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let what = format!("delete of {key}");
        let path = self.path(key).map_err(|fault| fault.error(&what))?;
        let Err(failed) = self.client.delete(&path).await else {
            return Ok(());
        };
        let fault = self.fault(&failed).await;
        if fault.is_missing_key() {
            return Ok(());
        }
        Err(fault.error(&what))
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let full = format!("{}{prefix}", self.root);
        let mut page_token = None;
        // A page may be empty although there is more; callers go on from the last key, so they
        // get one that has any.
        for _ in 0..EMPTY_PAGES_MAX {
            let options = PaginatedListOptions {
                offset: after.map(|after| format!("{}{after}", self.root)),
                max_keys: Some(limit.clamp(1, PAGE_MAX)),
                page_token: page_token.take(),
                ..Default::default()
            };
            let page = self.page(&full, options).await?;
            page_token = page.page_token;
            let objects = page.result.objects.into_iter();
            let objects: Vec<Listed> = objects
                .filter_map(|meta| {
                    let key = meta.location.as_ref().strip_prefix(self.root.as_str())?;
                    let etag = meta.e_tag.as_deref().map(|etag| Etag(etag.into()));
                    Some(Listed { key: Key::raw(key), size: meta.size, etag })
                })
                .collect();
            if !objects.is_empty() || page_token.is_none() {
                return Ok(Listing { objects, more: page_token.is_some() });
            }
        }
        Err(Error::unavailable(format!(
            "the store keeps answering the listing of {prefix} with empty pages"
        )))
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        let full = format!("{}{prefix}", self.root);
        let mut dirs = Vec::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                max_keys: Some(PAGE_MAX),
                page_token,
                ..Default::default()
            };
            let page = self.page(&full, options).await?;
            let found = page.result.common_prefixes.into_iter();
            dirs.extend(found.filter_map(|path| {
                let name = path.as_ref().strip_prefix(full.as_str())?;
                (!name.is_empty()).then(|| name.to_owned())
            }));
            page_token = page.page_token;
            if page_token.is_none() {
                break;
            }
        }
        dirs.sort_unstable();
        dirs.dedup();
        Ok(dirs)
    }
}
