//! `brainy completions`: a completion script.

use crate::args::Cli;
use crate::failure::Result;
use crate::output;
use clap::CommandFactory;
use clap_complete::Shell;

/// Prints the script for a shell.
pub fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "brainy", &mut script);
    output::bytes(&script)
}
