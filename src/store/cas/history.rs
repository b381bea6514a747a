//! Earlier versions of a document, and what happens where a person has put one of them in force again.
//!
//! A version is kept under its number before the next one replaces it, and no number is used twice. A
//! person who copies an older version over the document (with any tool: nobody else has to know) sets the
//! numbers back. The next writer notices it by what the history has beyond that version, and makes a version
//! of it whose number nobody has used: so what is kept stays, and whoever follows the document takes the
//! change up like any other.
//!
//! What must not go back is carried over from the newest version in the history. The one in force is not in it, so
//! whoever is about to do what cannot be undone (to delete what it allows to delete) [keeps](keep_in_force) it first.

use super::{Created, Document, Loaded, Next, create};
use crate::base::{Env, Result};
use crate::store::{ByteRange, Fetched, GetOptions, Key, Store, get};

/// Keys listed at a time.
const LIST_PAGE: usize = 1_000;

/// Writes `current` into the document's history, unless it is there. Where it was put back by hand, what
/// is to stand in its place before anything else happens.
pub(super) async fn keep<T: Document>(
    store: &dyn Store,
    env: &Env,
    current: &Loaded<T>,
) -> Result<Option<Next<T>>> {
    let Some(history) = current.value.history() else {
        return Ok(None);
    };
    let bytes = &current.bytes;
    let length = bytes.len() as u64;
    // What is there already is never ours here, so that it is noticed.
    let kept = create(store, env, &history.key, bytes.clone(), length, |_| false).await?;
    let own = match kept {
        Created::Won => return Ok(None),
        Created::Lost { head, .. } => head == bytes,
    };
    // Another writer may have kept it a moment ago. But then there is nothing behind it.
    let version = current.value.stamp().version;
    let Some((newest, key)) = newest_after(store, current, version, own).await? else {
        return Ok(None);
    };
    tracing::warn!(
        key = %history.key, version, newest,
        "an older version was put in force by hand; versions go on behind the newest one"
    );
    let mut next = current.value.clone();
    if let Fetched::Found(object) = get(store, &key).await? {
        match super::parse::<T>(&key, &object.bytes) {
            Ok(newest) => next.restored(&newest),
            Err(error) => tracing::warn!(%error, "the newest version in the history is not valid"),
        }
    }
    // The one that was replaced by hand is not in the history: its number is the one behind the newest.
    Ok(Some(Next::of(env, current.value.stamp(), newest.max(version) + 2, next)))
}

/// Writes a version that is in force into its history, before the next one would.
pub async fn keep_in_force<T: Document>(
    store: &dyn Store,
    env: &Env,
    current: &Loaded<T>,
) -> Result<()> {
    let Some(history) = current.value.history() else { return Ok(()) };
    let (bytes, length) = (&current.bytes, current.bytes.len() as u64);
    // What is there already is this one, or was there before a person put this one in force.
    create(store, env, &history.key, bytes.clone(), length, |head| head == bytes).await.map(drop)
}

/// Whether the history has a version behind this one, which was read before: a person has put it in force, or
/// another has replaced it meanwhile.
pub async fn is_followed<T: Document>(store: &dyn Store, current: &Loaded<T>) -> Result<bool> {
    let mut following = current.value.clone();
    following.stamp_mut().version += 1;
    let Some(following) = following.history() else { return Ok(false) };
    let head = GetOptions { range: Some(ByteRange::Bounded(0..1)), if_none_match: None };
    Ok(matches!(store.get(&following.key, head).await?, Fetched::Found(_)))
}

/// The newest version in the history, if it is another than `version`. `own` says whether `version` itself
/// is there: then one small read tells most of the time that it is the newest.
async fn newest_after<T: Document>(
    store: &dyn Store,
    current: &Loaded<T>,
    version: u64,
    own: bool,
) -> Result<Option<(u64, Key)>> {
    let Some(history) = current.value.history() else { return Ok(None) };
    if own && !is_followed(store, current).await? {
        return Ok(None);
    }
    let mut newest = (!own).then(|| (version, history.key.clone()));
    let mut from = history.key;
    loop {
        let page = store.list(&history.prefix, Some(&from), LIST_PAGE).await?;
        let versions = page.objects.iter().filter_map(|object| {
            (history.version_of)(&object.key).map(|version| (version, object.key.clone()))
        });
        newest = versions.chain(newest).max_by_key(|(version, _)| *version);
        match page.objects.last() {
            Some(last) if page.more => from = last.key.clone(),
            _ => return Ok(newest),
        }
    }
}
