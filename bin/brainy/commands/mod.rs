//! The commands, one file each.

mod cluster;
mod collections;
mod compact;
mod completions;
mod config;
mod demo;
mod doctor;
mod export;
mod import;
mod recall;
mod reshard;
mod search;
mod segments;
mod serve;
mod stats;
mod warm;

use crate::args::{Cli, Command};
use crate::failure::Result;

/// Runs one command.
pub async fn run(cli: Cli) -> Result<()> {
    let json = cli.json;
    match cli.command {
        Command::Serve(args) => serve::run(&args).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Import(args) => import::run(&args, json).await,
        Command::Export(args) => export::run(&args).await,
        Command::Search(args) => search::run(&args, json).await,
        Command::Collections(command) => collections::run(&command, json).await,
        Command::Stats(args) => stats::run(&args, json).await,
        Command::Recall(args) => recall::run(&args, json).await,
        Command::Warm(args) => warm::run(&args, json).await,
        Command::Segments(args) => segments::run(&args, json).await,
        Command::Compact(args) => compact::run(&args, json).await,
        Command::Reshard(args) => reshard::run(&args, json).await,
        Command::Cluster(command) => cluster::run(&command, json).await,
        Command::Doctor(args) => doctor::run(&args, json).await,
        Command::Config(command) => config::run(&command, json),
        Command::Completions { shell } => completions::run(shell),
    }
}
