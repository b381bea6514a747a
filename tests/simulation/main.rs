//! The real engine on one thread under paused time, against a store that delays, fails and lies
//! about failing; clients that read and write, a killer, bad weather; and a model outside the
//! engine that checks every answer. One seed gives one run.
//!
//! ```text
//! cargo test --test simulation -- --seeds 1000           # seeds 0..1000
//! cargo test --test simulation -- --seed 17 --trace      # one seed, every event
//! cargo test --test simulation -- --defect skip-floor-check
//! ```
//!
//! To add an actor, write a file in `actors/` and name it in `actors::spawn_all`.

mod actors;
mod checker;
mod model;
mod recorder;
mod trace;
mod world;

use brainy::base::defect::{Defect, Defects};
use std::process::ExitCode;

/// Seeds that a plain `cargo test` runs.
const SEEDS_DEFAULT: u64 = 20;
/// Within so many seeds a defect must show.
const DEFECT_SEEDS_MAX: u64 = 200;

struct Args {
    first: u64,
    seeds: u64,
    trace: bool,
    twice: bool,
    defect: Option<(Defect, &'static str)>,
}

fn parse() -> Result<Args, String> {
    let mut args =
        Args { first: 0, seeds: SEEDS_DEFAULT, trace: false, twice: false, defect: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match word.as_str() {
            "--seeds" => args.seeds = number(value()?)?,
            "--first" => args.first = number(value()?)?,
            "--seed" => (args.first, args.seeds) = (number(value()?)?, 1),
            "--trace" => args.trace = true,
            "--twice" => args.twice = true,
            "--defect" => {
                let name = value()?;
                let known = Defect::ALL.iter().find(|(_, known)| *known == name);
                args.defect = Some(*known.ok_or(format!("{name} is no defect"))?);
            }
            // What the test runner of cargo passes to every test binary.
            _ if word.starts_with("--") => {}
            _ => {}
        }
    }
    Ok(args)
}

#[cfg(debug_assertions)]
fn defects(defect: Option<Defect>) -> Defects {
    defect.map_or_else(Defects::default, Defects::only)
}

#[cfg(not(debug_assertions))]
fn defects(defect: Option<Defect>) -> Defects {
    assert!(defect.is_none(), "--defect needs a build with debug assertions");
    Defects::default()
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match args.defect {
        Some((defect, name)) => expect_caught(&args, defect, name),
        None => expect_sound(&args),
    }
}

fn expect_sound(args: &Args) -> ExitCode {
    let mut totals = world::Counts::default();
    let mut combined = trace::Trace::new(false);
    for seed in args.first..args.first + args.seeds {
        let outcome = world::run(seed, Defects::default(), args.trace);
        if let Some(violation) = outcome.violation {
            println!("seed {seed}: {violation}");
            println!("again: cargo test --test simulation -- --seed {seed} --trace");
            println!("simulation: 0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
        if args.twice && world::run(seed, Defects::default(), false).hash != outcome.hash {
            println!("seed {seed}: two runs differ; something is not deterministic");
            println!("simulation: 0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
        if args.seeds == 1 {
            println!("seed {seed}: trace {:016x}", outcome.hash);
        }
        combined.event(format_args!("{seed} {:016x}", outcome.hash));
        totals.add(&outcome.counts);
    }
    println!("{totals}");
    println!("trace of all seeds {:016x}", combined.hash());
    println!("simulation: {} passed, 0 failed", args.seeds);
    ExitCode::SUCCESS
}

fn expect_caught(args: &Args, defect: Defect, name: &str) -> ExitCode {
    for seed in args.first..args.first + DEFECT_SEEDS_MAX {
        let outcome = world::run(seed, defects(Some(defect)), args.trace);
        if let Some(violation) = outcome.violation {
            println!("defect {name} caught at seed {seed}: {violation}");
            return ExitCode::SUCCESS;
        }
    }
    println!("defect {name} was not caught within {DEFECT_SEEDS_MAX} seeds");
    ExitCode::FAILURE
}
