//! What may stand on the command line.

mod cluster;

pub use cluster::{ClusterCommand, EntryArgs, ServerArgs, StateCommand};

use brainy::base::settings::FlagValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// A vector store whose only shared infrastructure is one object-storage bucket.
#[derive(Debug, Parser)]
#[command(name = "brainy", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Print JSON for programs instead of tables for people; errors are JSON too
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer HTTP requests as a writer, a reader or both
    Serve(InstanceArgs),
    /// Load a sample, search it, and serve it until Ctrl-C
    Demo(DemoArgs),
    /// Store records from NDJSON or .npy files
    Import(ImportArgs),
    /// Write all records of a collection as NDJSON
    Export(ExportArgs),
    /// Find the records closest to a vector, a record or a text
    Search(SearchArgs),
    /// List, create, show or delete collections
    #[command(subcommand)]
    Collections(CollectionsCommand),
    /// Show counts and sizes of a collection
    Stats(StatsArgs),
    /// Measure how much of the true results searches find
    Recall(RecallArgs),
    /// Bring a collection into the memory of a server
    Warm(WarmArgs),
    /// Show the partitions of a collection and their segments
    Segments(SegmentsArgs),
    /// Index what is in the log and make one segment of each partition
    Compact(CompactArgs),
    /// Split the partitions of a collection
    Reshard(ReshardArgs),
    /// See and steer the nodes of a cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Find out whether a store is safe to use, and how fast it is
    Doctor(DoctorArgs),
    /// Show or check settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Settings that most commands take.
#[derive(Debug, Args, Default)]
pub struct SettingsArgs {
    /// URL of the store: s3://bucket/prefix, file:///folder, a folder, or memory:
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Settings file, .toml or .json (BRAINY_CONFIG)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any other setting, for example --set poll_interval_ms=500; see docs/settings.md
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

/// Settings of an instance that serves.
#[derive(Debug, Args, Default)]
pub struct InstanceArgs {
    /// Settings that other commands take too
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// What this instance does: writer, reader or hybrid; BRAINY_ROLE goes before it
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// This instance's name in the cluster
    #[arg(long, value_name = "ID")]
    pub instance_id: Option<String>,
    /// As it is said elsewhere: none, primary (both are --role hybrid) or replica (--role reader)
    #[arg(long, value_name = "MODE", value_parser = ["none", "primary", "replica"])]
    pub cluster_mode: Option<String>,
    /// As it is said elsewhere: --instance-id
    #[arg(long, value_name = "ID")]
    pub node_id: Option<String>,
}

impl SettingsArgs {
    /// The settings that were given; an entry of `--set` without `=` is returned as the error.
    pub fn flags(&self) -> Result<Vec<FlagValue>, String> {
        let mut flags = Vec::new();
        for pair in &self.set {
            let (key, value) = pair.split_once('=').ok_or_else(|| pair.clone())?;
            flags.push(flag("--set", key.trim(), value.trim()));
        }
        flags.extend(self.store.iter().map(|value| flag("--store", "store", value)));
        Ok(flags)
    }
}

impl InstanceArgs {
    /// As [`SettingsArgs::flags`].
    pub fn flags(&self) -> Result<Vec<FlagValue>, String> {
        let mut flags = self.settings.flags()?;
        for (name, key, value) in [
            ("--role", "role", &self.role),
            ("--listen", "listen", &self.listen),
            ("--instance-id", "instance_id", &self.instance_id),
            ("--cluster-mode", "cluster.mode", &self.cluster_mode),
            ("--node-id", "cluster.node_id", &self.node_id),
        ] {
            flags.extend(value.iter().map(|value| flag(name, key, value)));
        }
        Ok(flags)
    }
}

fn flag(flag: &str, key: &str, value: &str) -> FlagValue {
    FlagValue { flag: flag.to_owned(), key: key.to_owned(), value: value.to_owned() }
}

/// Where the data is: a server, or a store without one.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// URL of a server, for example http://127.0.0.1:3000; or use --store
    #[arg(long, value_name = "URL", conflicts_with_all = ["store", "config", "set"])]
    pub url: Option<String>,
    /// Settings for going straight to a store
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Where the data is, and in which collection.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Where the data is
    #[command(flatten)]
    pub target: TargetArgs,
    /// The collection
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub collection: String,
}

/// How distance is measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MetricName {
    /// 1 - cosine similarity
    Cosine,
    /// L2 distance
    Euclidean,
    /// Minus the inner product
    Dot,
}

impl MetricName {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            MetricName::Cosine => "cosine",
            MetricName::Euclidean => "euclidean",
            MetricName::Dot => "dot",
        }
    }
}

/// `brainy import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where to
    #[command(flatten)]
    pub data: DataArgs,
    /// NDJSON or .npy, also compressed by gzip or zstd; pipes, too, and - for standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// NDJSON with the id, metadata and text of each row of the .npy file, in the same order;
    /// without it, ids are row numbers, counted through all files
    #[arg(long, value_name = "FILE")]
    pub ids_from: Option<PathBuf>,
    /// Give records that have a text but no vector one by the built-in, lexical embedder
    #[arg(long)]
    pub embed_text: bool,
    /// Create the collection with this many dimensions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub dimensions: Option<u32>,
    /// Create the collection with this metric
    #[arg(long)]
    pub metric: Option<MetricName>,
    /// Records in one request
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Requests at a time
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=256))]
    pub concurrency: u32,
}

/// `brainy export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where from
    #[command(flatten)]
    pub data: DataArgs,
    /// File to write, or - for standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Leave the vectors out
    #[arg(long)]
    pub no_vector: bool,
    /// Export what can be read although objects of the collection are missing or damaged
    #[arg(long)]
    pub allow_partial: bool,
}

/// `brainy search`
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Where
    #[command(flatten)]
    pub data: DataArgs,
    /// What to be close to
    #[command(flatten)]
    pub query: QueryArgs,
    /// How many results
    #[arg(short, long, default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub k: u32,
    /// How many of the closest to leave out first
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u32,
    /// Only records whose metadata match, for example '{"year": {"$gte": 2020}}'
    #[arg(long, value_name = "JSON")]
    pub filter: Option<String>,
    /// Print vectors too
    #[arg(long)]
    pub include_vector: bool,
    /// How hard to look
    #[command(flatten)]
    pub effort: EffortArgs,
    /// See every write that was acknowledged before the search
    #[arg(long)]
    pub strong: bool,
    /// Wait for this version first
    #[arg(long, value_name = "VERSION", conflicts_with = "strong")]
    pub min_version: Option<u64>,
}

/// What to search for: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct QueryArgs {
    /// A vector, as a JSON array of numbers or as base64 of little-endian f32
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub vector: Option<String>,
    /// The id of a record, which is left out of the results
    #[arg(long)]
    pub id: Option<String>,
    /// A text, embedded by the built-in, lexical embedder: for collections that were filled with
    /// --embed-text
    #[arg(long)]
    pub text: Option<String>,
}

/// `brainy collections`
#[derive(Debug, Subcommand)]
pub enum CollectionsCommand {
    /// List all collections
    List {
        /// Where
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Create a collection; that it is there with the same settings is no error
    Create(CreateArgs),
    /// Show a collection
    Show(NamedArgs),
    /// Delete a collection and everything in it
    Delete(NamedArgs),
}

/// `brainy collections create`
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Which one
    #[command(flatten)]
    pub named: NamedArgs,
    /// Length of every vector
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub dimensions: u32,
    /// How distance is measured
    #[arg(long, default_value = "cosine")]
    pub metric: MetricName,
    /// Number of hash ranges to begin with
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub partition_count: Option<u32>,
    /// Keep ids that start with PREFIX in partitions of their own; may be repeated, and the longest
    /// prefix counts
    #[arg(long, value_name = "PREFIX=GROUP", value_parser = prefix_group)]
    pub prefix_group: Vec<(String, String)>,
    /// Free text for people
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
}

/// A prefix may hold `=`, so the last one counts.
fn prefix_group(text: &str) -> Result<(String, String), String> {
    let parts =
        text.rsplit_once('=').filter(|(prefix, group)| !(prefix.is_empty() || group.is_empty()));
    let (prefix, group) = parts.ok_or("write PREFIX=GROUP, for example eu-=europe")?;
    Ok((prefix.to_owned(), group.to_owned()))
}

/// One collection, by its name.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// Where
    #[command(flatten)]
    pub target: TargetArgs,
    /// The collection
    #[arg(value_name = "NAME", required_unless_present = "collection")]
    pub name: Option<String>,
    /// The collection, as other commands take it
    #[arg(long, short, value_name = "NAME", conflicts_with = "name")]
    pub collection: Option<String>,
}

impl NamedArgs {
    /// The collection's name.
    pub fn name(&self) -> &str {
        let name = self.name.as_deref().or(self.collection.as_deref());
        // One of the two is required.
        name.unwrap_or_default()
    }
}

/// `brainy stats`
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Which collection
    #[command(flatten)]
    pub data: DataArgs,
}

/// `brainy warm`
#[derive(Debug, Args)]
pub struct WarmArgs {
    /// Which collection
    #[command(flatten)]
    pub data: DataArgs,
}

/// `brainy recall`
#[derive(Debug, Args)]
pub struct RecallArgs {
    /// Which collection
    #[command(flatten)]
    pub data: DataArgs,
    /// How many records to draw as queries
    #[arg(long, value_name = "N", default_value_t = 25,
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub sample: u32,
    /// Vectors to ask with instead: a JSON array of vectors, for example '[[0.1, 0.2], [0.3, 0.4]]'
    #[arg(long, value_name = "JSON", conflicts_with = "sample")]
    pub queries: Option<String>,
    /// How many results of each count
    #[arg(short, long, default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub k: u32,
    /// Only records whose metadata match
    #[arg(long, value_name = "JSON")]
    pub filter: Option<String>,
    /// How hard to look
    #[command(flatten)]
    pub effort: EffortArgs,
}

/// How hard a search looks: at most one of these.
#[derive(Debug, Args)]
#[group(required = false, multiple = false)]
pub struct EffortArgs {
    /// Find about this share of the true results, 0.5 to 1; 1 measures every record
    #[arg(long, value_name = "SHARE")]
    pub target_recall: Option<f64>,
    /// How many rows a walk of an index keeps (efSearch), 1 to 10,000
    #[arg(long, value_name = "ROWS")]
    pub ef: Option<u64>,
}

impl EffortArgs {
    /// Says so in the body of a request.
    pub fn put_into(&self, body: &mut serde_json::Value) {
        if let Some(recall) = self.target_recall {
            body["targetRecall"] = recall.into();
        }
        if let Some(ef) = self.ef {
            body["ef"] = ef.into();
        }
    }
}

/// `brainy segments`
#[derive(Debug, Args)]
pub struct SegmentsArgs {
    /// Which collection
    #[command(flatten)]
    pub data: DataArgs,
    /// List the objects beside the segments that are not part of the collection
    #[arg(long)]
    pub unnamed: bool,
}

/// `brainy compact`
#[derive(Debug, Args)]
pub struct CompactArgs {
    /// Which collection
    #[command(flatten)]
    pub data: DataArgs,
}

/// `brainy reshard`
#[derive(Debug, Args)]
pub struct ReshardArgs {
    /// Which collection
    #[command(flatten)]
    pub data: DataArgs,
    /// How many partitions there are to be; never fewer than there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub partitions: u32,
}

/// `brainy doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// URL of the store: s3://bucket/prefix, file:///folder, or a folder
    #[arg(value_name = "URL")]
    pub store: String,
    /// Try only what an instance of this role does with the store: writer, reader or hybrid. For a reader nothing
    /// is written
    #[arg(long, value_name = "ROLE", value_parser = ["writer", "reader", "hybrid"])]
    pub role: Option<String>,
    /// Settings file, .toml or .json (BRAINY_CONFIG)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `brainy config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting in force and where it came from
    Show(InstanceArgs),
    /// Check a settings file without using it
    Check {
        /// The file, .toml or .json
        file: PathBuf,
    },
}

/// `brainy demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after the searches instead of serving
    #[arg(long)]
    pub once: bool,
    /// Folder for the store
    #[arg(long, value_name = "DIR", default_value = "./brainy-demo")]
    pub dir: PathBuf,
    /// Address and port to listen on [default: 127.0.0.1:3000, or a free port if that is taken]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}
