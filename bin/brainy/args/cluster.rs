//! `brainy cluster`.

use super::TargetArgs;
use clap::{Args, Subcommand, ValueEnum};

/// `brainy cluster`
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show a server and the cluster around it
    Status(ServerArgs),
    /// List all nodes
    Nodes {
        /// A server of the cluster, or its store
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Show a node
    Node {
        /// A server of the cluster, or its store
        #[command(flatten)]
        target: TargetArgs,
        /// The node
        id: String,
    },
    /// Show how the cluster is; ends with 0 for healthy, 3 for degraded, 4 for unhealthy
    Health(ServerArgs),
    /// Show the shared config
    Config {
        /// A server of the cluster, or its store
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Show how far every reader has come
    Replication(ServerArgs),
    /// Have a node take writes
    Promote {
        /// A server of the cluster
        #[command(flatten)]
        server: ServerArgs,
        /// The node
        id: String,
        /// What it becomes; a hybrid goes on answering reads
        #[arg(long, default_value = "hybrid")]
        role: WritingRole,
    },
    /// Have a node take no more writes
    Demote {
        /// A server of the cluster
        #[command(flatten)]
        server: ServerArgs,
        /// The node
        id: String,
        /// What it becomes
        #[arg(long, default_value = "reader")]
        role: ReadingRole,
        /// Also if no node will take writes any more
        #[arg(long)]
        force: bool,
    },
    /// Take back what was asked of a node: it takes the role that its settings say
    ClearRole {
        /// A server of the cluster
        #[command(flatten)]
        server: ServerArgs,
        /// The node
        id: String,
        /// Also if no node will take writes any more
        #[arg(long)]
        force: bool,
    },
    /// Remove a dead node from the list
    Remove {
        /// A server of the cluster
        #[command(flatten)]
        server: ServerArgs,
        /// The node
        id: String,
    },
    /// Have a server that has left join again
    Join(ServerArgs),
    /// Have a server leave; it goes on serving whoever asks it
    Leave(ServerArgs),
    /// Small values that all nodes share
    #[command(subcommand)]
    State(StateCommand),
}

/// A server.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// URL of a server, for example http://127.0.0.1:3000
    #[arg(long, value_name = "URL")]
    pub url: String,
}

/// Roles that take writes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum WritingRole {
    /// Takes writes; refuses reads
    Writer,
    /// Does both
    Hybrid,
}

impl WritingRole {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            WritingRole::Writer => "writer",
            WritingRole::Hybrid => "hybrid",
        }
    }
}

/// Roles that take no writes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ReadingRole {
    /// Answers reads; refuses writes
    Reader,
}

impl ReadingRole {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            ReadingRole::Reader => "reader",
        }
    }
}

/// `brainy cluster state`
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Show an entry
    Get(EntryArgs),
    /// Set an entry
    Put {
        /// Which one
        #[command(flatten)]
        entry: EntryArgs,
        /// Its value, any JSON up to 64 KiB
        #[arg(value_name = "JSON", allow_hyphen_values = true)]
        value: String,
        /// Only if the entry has this etag
        #[arg(long, value_name = "ETAG", conflicts_with = "create")]
        if_match: Option<String>,
        /// Only if there is no such entry
        #[arg(long)]
        create: bool,
    },
    /// Delete an entry
    Delete {
        /// Which one
        #[command(flatten)]
        entry: EntryArgs,
        /// Only if the entry has this etag
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// List entries
    List {
        /// A server of the cluster, or its store
        #[command(flatten)]
        target: TargetArgs,
        /// Only keys that start with this
        #[arg(long, default_value = "")]
        prefix: String,
    },
}

/// An entry of the shared state.
#[derive(Debug, Args)]
pub struct EntryArgs {
    /// A server of the cluster, or its store
    #[command(flatten)]
    pub target: TargetArgs,
    /// 1 to 256 of a-z, A-Z, 0-9, '.', '_', '-' and '/'
    pub key: String,
}
