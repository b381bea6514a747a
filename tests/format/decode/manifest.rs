//! Manifests of all versions.

use super::keys::ulid;
use super::partitioner::Partitioner;
use super::shared::{Object, Stamp, check_version, parse};
use super::{Fault, Result, corrupt, ensure};
use serde_json::Value;

/// The newest version that the document describes.
pub const VERSION: u64 = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub format_version: u64,
    pub stamp: Stamp,
    pub name: String,
    pub live: bool,
    pub incarnation: u64,
    pub created_at: String,
    pub settings: Settings,
    pub wal_floor: u64,
    pub wal_indexed: u64,
    pub indexed: Totals,
    pub floor_totals: Totals,
    pub partitions: Vec<Partition>,
    pub deletions: Vec<DeletionsMeta>,
    pub swept_before: Option<String>,
    pub grace_ms: Option<u64>,
    pub history_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub dimensions: u32,
    pub metric: String,
    pub partition_count: u64,
    pub partitioner: Partitioner,
    pub description: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub records: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    pub number: u64,
    pub group: String,
    pub hashes: (u64, u64),
    pub segments: Vec<SegmentMeta>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SegmentMeta {
    pub id: u128,
    pub rows: u64,
    pub dead: u64,
    pub bytes: u64,
    pub crc32c: u32,
    pub written: (u64, u64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeletionsMeta {
    pub id: u128,
    pub rows: u64,
    pub bytes: u64,
}

/// Decodes the manifest of the collection `name`.
pub fn decode(data: &[u8], name: &str) -> Result<Manifest> {
    read(data, name).map_err(|fault| fault.within("manifest"))
}

fn read(data: &[u8], name: &str) -> Result<Manifest> {
    let value: Value = parse(data, "JSON")?;
    let object = Object::of(&value, "JSON")?;
    let format_version = check_version(&object, VERSION)?;
    let live = match object.text("state")? {
        "live" => true,
        "deleted" => false,
        other => return corrupt(format!("state {other}")),
    };
    let settings = settings(&object.object("settings")?)?;
    let partitions = object.maybe("partitions", Object::objects)?.unwrap_or_default();
    let mut partitions = partitions.iter().map(partition).collect::<Result<Vec<_>>>()?;
    if partitions.is_empty() {
        partitions = even_ranges(settings.partition_count);
    }
    let deletions = object.maybe("deletions", Object::objects)?.unwrap_or_default();
    let deletions = deletions.iter().map(deletions_meta).collect::<Result<_>>()?;
    let manifest = Manifest {
        format_version,
        stamp: Stamp::decode(&object)?,
        name: object.text("name")?.to_owned(),
        live,
        incarnation: object.number("incarnation")?,
        created_at: object.text("createdAt")?.to_owned(),
        settings,
        wal_floor: object.number("walFloor")?,
        wal_indexed: object.number("walIndexed")?,
        indexed: totals(&object.object("indexed")?)?,
        floor_totals: totals(&object.object("floorTotals")?)?,
        partitions,
        deletions,
        swept_before: object.maybe("sweptBefore", Object::text)?.map(str::to_owned),
        grace_ms: object.maybe("graceMs", Object::number)?,
        history_ms: object.maybe("historyMs", Object::number)?,
    };
    validate(&manifest, name)?;
    Ok(manifest)
}

fn settings(object: &Object) -> Result<Settings> {
    let dimensions = object.number("dimensions")?;
    let Ok(dimensions) = u32::try_from(dimensions) else {
        return corrupt(format!("{dimensions} dimensions"));
    };
    let metric = object.text("metric")?.to_owned();
    let known = ["cosine", "euclidean", "dot"].contains(&metric.as_str());
    ensure(known, || format!("metric {metric}"))?;
    if let Some(fields) = object.maybe("fields", Object::object)? {
        let vector = fields.object("vector")?;
        let same = vector.text("type")? == "vector"
            && vector.number("dimensions")? == u64::from(dimensions)
            && vector.text("metric")? == metric
            && vector.text("storedAs")? == "f32";
        ensure(same, || "the field \"vector\" is something else".to_owned())?;
    }
    let partitioner = object.maybe("partitioner", Object::object)?;
    Ok(Settings {
        dimensions,
        metric,
        partition_count: object.number("partitionCount")?,
        partitioner: match partitioner {
            Some(partitioner) => Partitioner::decode(&partitioner)?,
            None => Partitioner::Hash,
        },
        description: object.maybe("description", Object::text)?.map(str::to_owned),
    })
}

fn totals(object: &Object) -> Result<Totals> {
    object.closed(&["records", "bytes"])?;
    Ok(Totals { records: object.number("records")?, bytes: object.number("bytes")? })
}

fn partition(object: &Object) -> Result<Partition> {
    let hashes = object.texts("hashes")?;
    let hash = |text: &String| match u64::from_str_radix(text, 16) {
        Ok(hash) if text.len() == 16 => Ok(hash),
        _ => corrupt(format!("{text:?} is no hash")),
    };
    let hashes = match &hashes[..] {
        [low, high] => (hash(low)?, hash(high)?),
        _ => return corrupt(format!("hashes {hashes:?}")),
    };
    Ok(Partition {
        number: object.number("number")?,
        group: object.maybe("group", Object::text)?.unwrap_or_default().to_owned(),
        hashes,
        segments: object.objects("segments")?.iter().map(segment).collect::<Result<_>>()?,
    })
}

fn segment(object: &Object) -> Result<SegmentMeta> {
    let crc = object.number("crc32c")?;
    let Ok(crc32c) = u32::try_from(crc) else { return corrupt(format!("a checksum of {crc}")) };
    Ok(SegmentMeta {
        id: ulid(object.text("id")?)?,
        rows: object.number("rows")?,
        dead: object.number("dead")?,
        bytes: object.number("bytes")?,
        crc32c,
        written: object.range("written")?,
    })
}

fn deletions_meta(object: &Object) -> Result<DeletionsMeta> {
    Ok(DeletionsMeta {
        id: ulid(object.text("id")?)?,
        rows: object.number("rows")?,
        bytes: object.number("bytes")?,
    })
}

/// The partitions of a collection that nobody has split: `count` even ranges of the hash.
fn even_ranges(count: u64) -> Vec<Partition> {
    let start = |number: u64| ((u128::from(number) << 64) / u128::from(count.max(1))) as u64;
    let range = |number| {
        let end = if number + 1 == count { u64::MAX } else { start(number + 1) - 1 };
        Partition {
            number,
            group: String::new(),
            hashes: (start(number), end),
            segments: Vec::new(),
        }
    };
    (0..count.min(4_096)).map(range).collect()
}

/// What a manifest says of itself.
fn validate(manifest: &Manifest, name: &str) -> Result<()> {
    ensure(manifest.name == name, || format!("it is of {} and not of {name}", manifest.name))?;
    let (floor, indexed) = (manifest.wal_floor, manifest.wal_indexed);
    ensure(floor <= indexed.saturating_add(1), || format!("floor {floor}, indexed {indexed}"))?;
    let mut numbers: Vec<u64> = manifest.partitions.iter().map(|part| part.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    ensure(numbers.len() == manifest.partitions.len(), || "a number twice".to_owned())?;
    let mut ranges: Vec<(&str, (u64, u64))> =
        manifest.partitions.iter().map(|part| (part.group.as_str(), part.hashes)).collect();
    ranges.sort_unstable();
    for group in ranges.chunk_by(|a, b| a.0 == b.0) {
        covers_all(group).map_err(|fault| fault.within(&format!("group {:?}", group[0].0)))?;
    }
    let has_segments = manifest.partitions.iter().any(|part| !part.segments.is_empty());
    ensure(manifest.live || !has_segments, || "deleted, with segments".to_owned())?;
    let dead = manifest.partitions.iter().flat_map(|part| &part.segments);
    for SegmentMeta { rows, dead, .. } in dead {
        ensure(dead <= rows, || format!("{dead} of {rows} rows are dead"))?;
    }
    Ok(())
}

/// The ranges of one group, ascending.
fn covers_all(ranges: &[(&str, (u64, u64))]) -> std::result::Result<(), Fault> {
    let mut next = Some(0);
    for (_, (low, high)) in ranges {
        let fits = next == Some(*low) && low <= high;
        ensure(fits, || format!("hashes from {low:016x} to {high:016x}"))?;
        next = high.checked_add(1);
    }
    ensure(next.is_none(), || format!("no partition has hashes from {next:x?} on"))
}
