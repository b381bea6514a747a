//! Reads by id and in order: `get`, `fetch`, `list`, `export`, counts.

use super::Asked;
use crate::model::collection::Checked;
use crate::model::{Collection, Condition, Contents, Live, Record as Meant};
use brainy::base::ids::Seq;
use brainy::engine::model::{CollectionInfo, Deleted, FetchedRecords, Record, RecordPage};
use serde_json::Value;
use std::collections::BTreeSet;

/// Whether a record that was read is the one in force.
fn same(read: &Record, id: &str, live: &Live, has_vector: bool) -> bool {
    let metadata = serde_json::from_str::<Value>(&read.metadata);
    read.id == id
        && read.vector.as_ref() == Some(&live.record.vector).filter(|_| has_vector)
        && metadata.is_ok_and(|metadata| metadata == live.record.metadata)
        && read.text == live.record.text.as_deref().map(Into::into)
        && read.version == live.written
}

/// One record, which may be that of any version from the least right one to the end of the log.
pub fn get(asked: &Asked, collection: &Collection, id: &str, read: Option<&Record>) -> Checked {
    let log = &collection.log;
    let mut versions = log.between(asked.least(collection), log.tail());
    let right = versions.any(|(_, contents)| match (read, contents.get(id)) {
        (None, None) => true,
        (Some(read), Some(live)) => same(read, id, live, true),
        _ => false,
    });
    match right {
        true => Ok(()),
        false => Err(format!("{} has {id} as {read:?}", asked.who(asked.least(collection)))),
    }
}

/// Several records by id, each once, however often it was asked for.
pub fn fetch(
    contents: &Contents,
    ids: &[String],
    has_vector: bool,
    read: &FetchedRecords,
) -> Checked {
    let mut asked = BTreeSet::new();
    let (there, missing): (Vec<&String>, Vec<&String>) =
        ids.iter().filter(|id| asked.insert(*id)).partition(|id| contents.contains_key(*id));
    let right = read.missing.iter().eq(missing)
        && read.records.len() == there.len()
        && read
            .records
            .iter()
            .zip(there)
            .all(|(read, id)| same(read, id, &contents[id], has_vector));
    match right {
        true => Ok(()),
        false => Err(format!("fetched {read:?}, the log says {contents:?}")),
    }
}

/// Not all records that were to be read, each as it is.
pub fn some(contents: &Contents, read: &[Record], has_vector: bool) -> Checked {
    let is_wrong = |record: &&Record| {
        contents.get(&*record.id).is_none_or(|live| !same(record, &record.id, live, has_vector))
    };
    match read.iter().find(is_wrong) {
        Some(record) => Err(format!("read {record:?}, the log says {contents:?}")),
        None => Ok(()),
    }
}

/// A page of at most `limit` records with ids after `after`.
pub fn page(
    contents: &Contents,
    after: Option<&str>,
    limit: usize,
    has_vector: bool,
    read: &RecordPage,
) -> Checked {
    let wanted: Vec<_> =
        contents.iter().filter(|(id, _)| after.is_none_or(|after| id.as_str() > after)).collect();
    let page = &wanted[..wanted.len().min(limit)];
    let right = read.records.len() == page.len()
        && read.records.iter().zip(page).all(|(read, (id, live))| same(read, id, live, has_vector))
        && read.next_cursor.is_some() == (wanted.len() > limit);
    match right {
        true => Ok(()),
        false => Err(format!("after {after:?} lists {read:?}, the log says {page:?}")),
    }
}

/// An export: as many lines as records, in the order of their ids.
pub fn export(contents: &Contents, has_vector: bool, lines: &[u8]) -> Checked {
    let text = std::str::from_utf8(lines).map_err(|error| format!("an export: {error}"))?;
    let mut lines = text.lines();
    for (id, live) in contents {
        let Some(line) = lines.next() else { return Err(format!("an export ends before {id}")) };
        let read: Value =
            serde_json::from_str(line).map_err(|error| format!("a line of an export: {error}"))?;
        let vector: Option<Vec<f32>> = serde_json::from_value(read["vector"].clone()).ok();
        let right = read["id"] == id.as_str()
            && read["metadata"] == live.record.metadata
            && read["text"].as_str() == live.record.text.as_deref()
            && vector.as_ref() == Some(&live.record.vector).filter(|_| has_vector);
        if !right {
            return Err(format!("an export has {line}, the log says {id} {live:?}"));
        }
    }
    lines.next().map_or(Ok(()), |line| Err(format!("an export has one line more: {line}")))
}

/// What a collection says of itself.
pub fn info(asked: &Asked, collection: &Collection, info: &CollectionInfo) -> Checked {
    let log = &collection.log;
    let counts = |count: u64| {
        // Count and version are taken one after the other: the count may be that of an earlier version.
        let mut versions = log.between(asked.least(collection), log.tail());
        versions.any(|(_, contents)| contents.len() as u64 == count)
    };
    if !info.vector_count.is_none_or(counts) || info.version > log.tail() {
        let contents: Vec<(Seq, usize)> = log
            .between(asked.least(collection), log.tail())
            .map(|(seq, all)| (seq, all.len()))
            .collect();
        return Err(format!(
            "{} says {info:?}, the log says {contents:?}",
            asked.who(info.version)
        ));
    }
    Ok(())
}

/// The answer to a delete of what `is_meant`: as many as there were at a version since `before`, all of
/// which the entry names.
pub fn deleted(
    collection: &Collection,
    before: Seq,
    deleted: &Deleted,
    is_meant: impl Fn(&String, &Meant) -> bool,
) -> Checked {
    let (log, name) = (&collection.log, &collection.name);
    let named = log.deleted(deleted.version);
    let mut versions = log.between(before, log.tail());
    let right = versions.any(|(_, contents)| {
        let mut meant = contents.iter().filter(|(id, live)| is_meant(id, &live.record));
        let count = meant.clone().count() == deleted.deleted;
        count && (deleted.deleted == 0 || meant.all(|(id, _)| named.contains(id)))
    });
    match right {
        true => Ok(()),
        false => Err(format!("{deleted:?} of {name}, whose entry there deletes {named:?}")),
    }
}

/// The answer to a delete by filter: what matched at the version that it names, as far as nothing was written
/// to it since.
pub fn deleted_by(
    collection: &Collection,
    before: Seq,
    deleted: &Deleted,
    condition: &Condition,
) -> Checked {
    let (log, name) = (&collection.log, &collection.name);
    let Some(as_of) = deleted.as_of.filter(|as_of| *as_of >= before && *as_of <= log.tail()) else {
        return Err(format!("{deleted:?} of {name}, of which {before} was known"));
    };
    let contents = log.contents(as_of);
    let meant: Vec<&String> = contents
        .iter()
        .filter(|(_, live)| condition.passes(&live.record.metadata))
        .map(|(id, _)| id)
        .collect();
    let right = meant.len() == deleted.deleted
        && meant.iter().all(|id| log.deletes_until(deleted.version, id, as_of));
    match right {
        true => Ok(()),
        false => Err(format!("{deleted:?} of {name} by {condition:?}, which matched {meant:?}")),
    }
}
