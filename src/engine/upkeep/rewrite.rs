//! The live rows of segments become segments.
//!
//! Each input is read once to find out where its rows go, and once for every group of targets that are
//! made together, which hold as much as there is room for or are one. So memory is bounded by that, by one
//! target, and by what was made, which waits until all is: what is put and not named is collected. Where that is more
//! than there is room for, rows, files and inputs are on the disk ([`Taken::spill`]), and in memory are the indexes.

use super::room::Taken;
use crate::base::defect::{self, Defect};
use crate::base::ids::{Ulid, record_hash};
use crate::base::spill::Spill;
use crate::base::{Error, Result};
use crate::engine::context::Context;
use crate::engine::reading::segments::{Member, Resident, SegmentSet};
use crate::index::{IndexParams, MergePart, Metric, Threads};
use crate::manifest::Manifest;
use crate::partition::HashRange;
use crate::segment::SegmentBuilder;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::Arc;

/// Segments that are read at a time.
const READ_AT_A_TIME: usize = 8;
/// A target that takes at least this share of its inputs' rows is merged of what is kept of their graphs;
/// with fewer, a new graph is cheaper at the same recall (measured: `benches/kernel.py --merge`).
const MERGED_SHARE: f64 = 0.5;
/// The target of a row that has none.
const NOWHERE: u32 = u32::MAX;

/// A segment whose rows are written anew.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) id: Ulid,
    pub(super) resident: Arc<Resident>,
    /// The rows that were dead when it began.
    pub(super) dead: RoaringBitmap,
}

impl Input {
    fn live(&self) -> u64 {
        u64::from(self.resident.segment().contents().rows) - self.dead.len()
    }
}

/// Where rows go: those of a partition whose ids have a hash in a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) partition: u32,
    pub(super) hashes: HashRange,
}

/// The members of `set` that are `wanted`, brought into memory, the largest first: it is the rows of
/// the others that are linked when graphs are merged.
pub(super) async fn inputs(
    context: &Context,
    set: &SegmentSet,
    wanted: impl Fn(&Member) -> bool,
    spill: &Spill,
) -> Result<Vec<Input>> {
    let name = &set.manifest().name;
    let mut loads = Vec::new();
    for member in set.members().iter().filter(|member| wanted(member)) {
        loads.push(async move {
            let (partition, meta) = (member.partition, &member.meta);
            let resident = context.shelf.segment_once(name, partition, meta, spill).await?;
            let resurrects = context.env.defects.has(Defect::CompactionResurrects);
            let dead = if resurrects { RoaringBitmap::new() } else { member.dead.clone() };
            Ok::<_, Error>(Input { id: member.meta.id, resident, dead })
        });
    }
    let mut inputs: Vec<Input> = stream::iter(loads).buffered(READ_AT_A_TIME).try_collect().await?;
    inputs.sort_by_key(Input::live);
    inputs.reverse();
    Ok(inputs)
}

/// A file for each of `targets` that has rows, of the live rows of all `inputs`. The targets' ranges
/// ascend and do not overlap.
pub(super) async fn made(
    context: &Context,
    manifest: &Manifest,
    inputs: &[Input],
    targets: &[Target],
    room: &Taken,
) -> Result<Vec<(u32, Bytes)>> {
    let vector = manifest.settings.vector();
    let (dimensions, metric) = (vector.dimensions as usize, vector.metric);
    let (params, spill) = (context.upkeep.index, room.spill.clone());
    let shape = Shape { dimensions, metric, spill };
    let (inputs, targets): (Arc<[Input]>, Arc<[Target]>) = (inputs.into(), targets.into());
    let routes = {
        let (inputs, targets) = (inputs.clone(), targets.clone());
        Arc::new(context.env.background.run(move || Routes::of(&inputs, &targets)).await??)
    };
    let mut files = Vec::new();
    for group in routes.groups(&inputs, room.group_bytes) {
        let filled = {
            let (inputs, routes, group) = (inputs.clone(), routes.clone(), group.clone());
            let shape = shape.clone();
            let fill = move || routes.filled(&inputs, group, &shape);
            context.env.background.run(fill).await??
        };
        let mut works = Vec::new();
        for (target, builder) in group.zip(filled).filter(|(_, builder)| builder.rows() > 0) {
            let (inputs, routes) = (inputs.clone(), routes.clone());
            let finish = move || routes.finished(&inputs, target, builder, params);
            let partition = targets[target].partition;
            works.push(async move {
                Ok::<_, Error>((partition, context.env.background.run(finish).await??))
            });
        }
        // What is on the disk is so for want of memory.
        let at_a_time = if room.spill.is_on_disk() { 1 } else { context.env.background.threads() };
        let made = stream::iter(works).buffered(at_a_time);
        files.extend(made.try_collect::<Vec<_>>().await?);
    }
    Ok(files)
}

/// What all rows have in common.
#[derive(Debug, Clone)]
struct Shape {
    dimensions: usize,
    metric: Metric,
    spill: Spill,
}

/// Which target each row of each input goes to.
struct Routes {
    of_inputs: Vec<Vec<u32>>,
    /// The rows of each target.
    rows: Vec<u64>,
}

impl Routes {
    fn of(inputs: &[Input], targets: &[Target]) -> Result<Routes> {
        let mut rows = vec![0; targets.len()];
        let mut of_inputs = Vec::with_capacity(inputs.len());
        for Input { resident, dead, .. } in inputs {
            let segment = resident.segment();
            let mut of_input = vec![NOWHERE; segment.contents().rows as usize];
            for (row, to) in (0u32..).zip(&mut of_input).filter(|(row, _)| !dead.contains(*row)) {
                let hash = record_hash(segment.id(row)?);
                let before = targets.partition_point(|target| target.hashes.last < hash);
                if before > 0 && defect::is_here(Defect::SplitDropsRows) {
                    continue;
                }
                if targets.get(before).is_some_and(|target| target.hashes.contains(hash)) {
                    *to = before as u32;
                    rows[before] += 1;
                }
            }
            of_inputs.push(of_input);
        }
        Ok(Routes { of_inputs, rows })
    }

    /// The targets, in groups that are made together.
    fn groups(&self, inputs: &[Input], group_bytes: u64) -> Vec<Range<usize>> {
        let bytes: u64 = inputs.iter().map(|input| input.resident.segment().bytes() as u64).sum();
        let rows: u64 = self.of_inputs.iter().map(|of_input| of_input.len() as u64).sum();
        let most = group_bytes / (bytes / rows.max(1)).max(1);
        let (mut groups, mut start, mut held) = (Vec::new(), 0, 0);
        for (target, rows) in self.rows.iter().enumerate() {
            if target > start && held + rows > most {
                groups.push(start..target);
                (start, held) = (target, 0);
            }
            held += rows;
        }
        groups.push(start..self.rows.len());
        groups
    }

    /// A builder with the rows of each target of a group.
    fn filled(
        &self,
        inputs: &[Input],
        group: Range<usize>,
        shape: &Shape,
    ) -> Result<Vec<SegmentBuilder>> {
        let Shape { dimensions, metric, spill } = shape;
        let builder = |_| SegmentBuilder::spilling(*dimensions, *metric, spill.clone());
        let mut builders: Vec<SegmentBuilder> = group.clone().map(builder).collect();
        for (input, of_input) in inputs.iter().zip(&self.of_inputs) {
            SegmentBuilder::append(&mut builders, input.resident.segment(), |row| {
                let to = of_input[row as usize] as usize;
                group.contains(&to).then(|| to - group.start)
            })?;
        }
        Ok(builders)
    }

    /// The file of a target.
    fn finished(
        &self,
        inputs: &[Input],
        target: usize,
        builder: SegmentBuilder,
        params: IndexParams,
    ) -> Result<Bytes> {
        let all: usize = self.of_inputs.iter().map(Vec::len).sum();
        if (builder.rows() as f64) < MERGED_SHARE * all as f64 {
            return builder.finish(params, Threads::Pool);
        }
        let kept: Vec<Vec<u32>> = self
            .of_inputs
            .iter()
            .map(|of_input| {
                let rows = (0u32..).zip(of_input);
                rows.filter(|(_, to)| **to as usize == target).map(|(row, _)| row).collect()
            })
            .collect();
        let parts: Vec<MergePart<'_>> = inputs
            .iter()
            .zip(&kept)
            .map(|(input, kept)| {
                let index = input.resident.segment().index();
                MergePart { index, kept: (kept.len() < index.len()).then_some(kept) }
            })
            .collect();
        builder.finish_merged(&parts, params, Threads::Pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Env;
    use crate::base::ids::{CollectionName, Seq};
    use crate::base::settings::{Role, Settings};
    use crate::engine::upkeep::Room;
    use crate::manifest::{CollectionSettings, SegmentMeta};
    use crate::partition::PartitionerKind;
    use crate::store::memory::MemoryStore;
    use crate::store::{DynStore, paths};

    const ROWS: u64 = 2_000;
    const DIMENSIONS: usize = 8;

    fn file(first: u64) -> Bytes {
        let mut builder = SegmentBuilder::new(DIMENSIONS, Metric::Euclidean);
        for row in first..first + ROWS {
            let value = |at: usize| ((row + 1) * (2 * at as u64 + 3) * 7_919 % 1_000) as f32;
            let vector: Vec<f32> = (0..DIMENSIONS).map(value).collect();
            let (id, text) = (format!("r{row}"), format!("text {row}").repeat(40));
            builder.push(&id, Seq(row + 1), &vector, "{\"a\":1}", Some(&text)).unwrap();
        }
        builder.finish(IndexParams::default(), Threads::One).unwrap()
    }

    /// A context of a store that is not mapped, and a manifest with two segments there.
    async fn world() -> (Context, Manifest) {
        // In the name alone: what counts is that objects are read whole into memory.
        let settings = Settings { store: "s3://bucket".to_owned(), ..Settings::default() };
        let store: DynStore = Arc::new(MemoryStore::default());
        let env = Env::system(1).unwrap();
        let name = CollectionName::new("c").unwrap();
        let of_one_vector = CollectionSettings::new(DIMENSIONS as u32, Metric::Euclidean, 1);
        let mut manifest = Manifest::create(&name, of_one_vector, env.clock.now(), None);
        for first in [0, ROWS] {
            let (id, file) = (Ulid(u128::from(first) + 1), file(first));
            let meta = SegmentMeta {
                id,
                rows: ROWS as u32,
                dead: 0,
                bytes: file.len() as u64,
                crc32c: crc32c::crc32c(&file),
                written: (Seq(first + 1), Seq(first + ROWS)),
                extra: Default::default(),
            };
            store.put(&paths::segment(&name, 0, id), file).await.unwrap();
            manifest.partitions[0].segments.push(meta);
        }
        (Context::new(&settings, Role::Writer, "one", store, env, Arc::default()), manifest)
    }

    #[tokio::test]
    async fn on_the_disk_the_same_files_are_made() {
        let (context, manifest) = world().await;
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let partitioner = PartitionerKind::default().resolve(&[]).unwrap();
        let set = context.shelf.set(Arc::new(manifest.clone()), partitioner, None).await.unwrap();
        let bytes = manifest.segments().map(|(_, segment)| segment.bytes).sum::<u64>();
        let halves = HashRange::even(2);
        let merge = vec![Target { partition: 0, hashes: HashRange::ALL }];
        let split = (1..).zip(halves).map(|(partition, hashes)| Target { partition, hashes });
        for targets in [merge, split.collect()] {
            let mut outcomes = Vec::new();
            for spill in [Spill::none(), Spill::to(folder.path().to_str())] {
                let on_disk = spill.is_on_disk();
                let room = Room::within(Some(8 << 20), spill).take_to_rewrite(bytes).await;
                assert_eq!(room.spill.is_on_disk(), on_disk, "{bytes} are too many for it");
                let inputs = inputs(&context, &set, |_| true, &room.spill).await.unwrap();
                let made = made(&context, &manifest, &inputs, &targets, &room).await.unwrap();
                assert_eq!(made.len(), targets.len());
                outcomes.push(made);
            }
            assert!(outcomes[0] == outcomes[1]);
        }
    }
}
