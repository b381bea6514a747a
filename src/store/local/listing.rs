//! Listing a tree of folders in the byte order of the keys.

use super::files::{Files, is_a_link, is_missing, weak_etag};
use super::{OWN, failed};
use crate::base::Result;
use crate::store::{Key, Listed, Listing, Prefix};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::path::{Path, PathBuf};

/// One entry of a folder. A folder's name ends in `/`: then the order of the names is the order of
/// the keys below (`a-b` comes before `a/b`).
type Entry = Reverse<String>;

struct Walk<'a> {
    files: &'a Files,
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
    listing: Listing,
}

pub(super) fn list(
    files: &Files,
    prefix: &Prefix,
    after: Option<&Key>,
    limit: usize,
) -> Result<Listing> {
    let mut walk = Walk {
        files,
        prefix: prefix.as_str(),
        after: after.map(Key::as_str),
        limit,
        listing: Listing::default(),
    };
    let (folder, start) = folder_of(files, prefix.as_str())?;
    walk.folder(&folder, start)?;
    if walk.listing.objects.is_empty() {
        files.check_root()?;
    }
    Ok(walk.listing)
}

pub(super) fn dirs(files: &Files, prefix: &Prefix) -> Result<Vec<String>> {
    let (folder, start) = folder_of(files, prefix.as_str())?;
    let rest = &prefix.as_str()[start.len()..];
    let mut found = Vec::new();
    for Reverse(name) in entries(files, &folder, start, |name| name.starts_with(rest))? {
        let Some(name) = name.strip_suffix('/') else {
            continue;
        };
        if has_object(files, &folder.join(name))? {
            found.push(name.to_owned());
        }
    }
    if found.is_empty() {
        files.check_root()?;
    }
    found.sort_unstable();
    Ok(found)
}

/// The deepest folder that `prefix` names, and its part of the prefix (empty or ending in `/`).
fn folder_of<'a>(files: &Files, prefix: &'a str) -> Result<(PathBuf, &'a str)> {
    match prefix.rfind('/') {
        None => Ok((files.root().to_owned(), "")),
        Some(at) => Ok((files.path(&prefix[..at])?, &prefix[..=at])),
    }
}

/// The entries of `folder` that `wanted` names, in no order; none where it does not exist. A link among them
/// is an error: left out, what it leads to would seem to be gone.
fn entries(
    files: &Files,
    folder: &Path,
    key: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Entry>> {
    files.inside(folder)?;
    let io_failed = |error| failed(error, "list", folder.display());
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(io_failed(error)),
    };
    let mut names = Vec::new();
    for entry in found {
        let entry = entry.map_err(io_failed)?;
        // Whatever is not UTF-8 is not ours.
        let Ok(mut name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type().map_err(io_failed)?;
        if key.is_empty() && name == OWN {
            continue;
        }
        if kind.is_symlink() {
            match wanted(&name) || wanted(&format!("{name}/")) {
                true => return Err(is_a_link(&entry.path())),
                false => continue,
            }
        }
        if kind.is_dir() {
            name.push('/');
        }
        if wanted(&name) {
            names.push(Reverse(name));
        }
    }
    Ok(names)
}

impl Walk<'_> {
    /// Lists what is below `folder`, whose keys start with `key`, until the page is full.
    fn folder(&mut self, folder: &Path, key: &str) -> Result<()> {
        let names = entries(self.files, folder, key, |name| self.wants(key, name))?;
        // A heap: a page needs the first few of perhaps 100,000.
        let mut names = BinaryHeap::from(names);
        while let Some(Reverse(name)) = names.pop() {
            let path = folder.join(&name);
            let full = format!("{key}{name}");
            if name.ends_with('/') {
                self.folder(&path, &full)?;
            } else {
                self.object(&path, full)?;
            }
            if self.listing.more {
                return Ok(());
            }
        }
        Ok(())
    }

    fn object(&mut self, path: &Path, key: String) -> Result<()> {
        if self.listing.objects.len() >= self.limit {
            self.listing.more = true;
            return Ok(());
        }
        match fs::symlink_metadata(path) {
            Ok(metadata) => self.listing.objects.push(Listed {
                key: Key::raw(key),
                size: metadata.len(),
                etag: Some(weak_etag(&metadata)),
            }),
            // Deleted since we read the folder.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(failed(error, "list", path.display())),
        }
        Ok(())
    }

    /// Whether the entry is, or may have below it, a key that the listing wants.
    fn wants(&self, key: &str, name: &str) -> bool {
        // Compares `key + name` without building it: this runs for every entry of the folder.
        let is_folder = name.ends_with('/');
        let in_prefix = match self.prefix.strip_prefix(key) {
            Some(rest) => name.starts_with(rest) || (is_folder && rest.starts_with(name)),
            None => key.starts_with(self.prefix),
        };
        let after = self.after.is_none_or(|after| match after.strip_prefix(key) {
            Some(rest) => name > rest || (is_folder && rest.starts_with(name)),
            None => key > after,
        });
        in_prefix && after
    }
}

/// Whether there is any file below `folder`.
fn has_object(files: &Files, folder: &Path) -> Result<bool> {
    for Reverse(name) in entries(files, folder, "/", |_| true)? {
        if !name.ends_with('/') || has_object(files, &folder.join(&name))? {
            return Ok(true);
        }
    }
    Ok(false)
}
