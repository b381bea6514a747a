//! Figures of single collections, of which there is no end: each metric names a few.

use super::{CollectionLabels, Gauge};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Collections that have figures of their own: the largest.
pub const COLLECTIONS_SHOWN_MAX: usize = 20;

/// Collections that are in a state, each 1 while it is: the metric names them, up to a bound.
#[derive(Clone, Default)]
pub struct NamedCollections {
    named: Family<CollectionLabels, Gauge>,
    count: Arc<AtomicUsize>,
}

impl NamedCollections {
    /// Names one, where it is named already or fewer than `most` are.
    pub fn name(&self, collection: &str, most: usize) {
        let labels = CollectionLabels { collection: collection.to_owned() };
        if self.named.get(&labels).is_none() {
            if self.count.load(Ordering::Relaxed) >= most {
                return;
            }
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        self.named.get_or_create(&labels).set(1);
    }

    /// As it is registered.
    pub(super) fn family(&self) -> Family<CollectionLabels, Gauge> {
        self.named.clone()
    }

    /// Names it no longer.
    pub fn forget(&self, collection: &str) {
        if self.named.remove(&CollectionLabels { collection: collection.to_owned() }) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How much one collection holds, as far as this instance knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionFigures {
    /// The collection's name.
    pub name: String,
    /// Live records.
    pub records: u64,
    /// Rows of the log that are held in memory: those in no segment yet, or in none that is at hand.
    pub tail_rows: u64,
    /// Bytes of log that are not in segments yet.
    pub unindexed_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of their files.
    pub segment_bytes: u64,
}

/// The figures of the largest collections, as they were last set. Cloning shares them.
#[derive(Clone, Default)]
pub struct LargestCollections(Arc<Mutex<Vec<CollectionFigures>>>);

impl LargestCollections {
    /// Keeps the largest of `all`, by the bytes of their segments and logs.
    pub fn set(&self, mut all: Vec<CollectionFigures>) {
        all.sort_by_cached_key(|figures| {
            let bytes = figures.segment_bytes.saturating_add(figures.unindexed_bytes);
            (Reverse(bytes), figures.name.clone())
        });
        all.truncate(COLLECTIONS_SHOWN_MAX);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

impl fmt::Debug for LargestCollections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LargestCollections")
    }
}

type Figure = fn(&CollectionFigures) -> u64;

const FIGURES: [(&str, &str, Figure); 5] = [
    ("collection_records", "Live records of the largest collections", |it| it.records),
    ("collection_tail_rows", "Rows of the log held in memory, of the largest collections", |it| {
        it.tail_rows
    }),
    (
        "collection_unindexed_bytes",
        "Bytes of log that are not in segments yet, of the largest collections",
        |it| it.unindexed_bytes,
    ),
    ("collection_segments", "Segments of the largest collections", |it| it.segments),
    ("collection_segment_bytes", "Bytes of the segments of the largest collections", |it| {
        it.segment_bytes
    }),
];

impl Collector for LargestCollections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if shown.is_empty() {
            return Ok(());
        }
        for (name, help, figure) in FIGURES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for one in &shown {
                let labels = CollectionLabels { collection: one.name.clone() };
                let gauge = ConstGauge::new(i64::try_from(figure(one)).unwrap_or(i64::MAX));
                gauge.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
