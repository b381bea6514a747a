//! The real engine on one thread under paused time, against a store that delays, fails and lies
//! about failing; clients that read and write, a killer, bad weather; and a model outside the
//! engine that checks every answer. One seed gives one run.
//!
//! ```text
//! cargo test --test simulation -- --seeds 1000           # seeds 0..1000
//! cargo test --test simulation -- --seed 17 --trace      # one seed, every event
//! cargo test --test simulation -- --minutes 10           # fresh seeds
//! cargo test --test simulation -- --mode fair            # two or four writers, equal load
//! cargo test --test simulation -- --mode damage          # objects vanish or change, and come back
//! cargo test --test simulation -- --defect skip-floor-check
//! cargo test --test simulation -- --defects              # all of them, and the seeds that catch them
//! ```
//!
//! To add an actor, write a file in `actors/` and name it in `actors::spawn_all`.

mod actors;
mod args;
mod checks;
mod counts;
mod dated;
mod guarantees;
mod instance;
mod model;
mod profile;
mod recorder;
mod trace;
mod world;

use args::Args;
use brainy::base::defect::{Defect, Defects};
use profile::Mode;
use std::process::ExitCode;
use std::time::Duration;

/// Within so many seeds a defect must show.
const DEFECT_SEEDS_MAX: u64 = 200;

#[cfg(debug_assertions)]
fn broken(defect: Defect) -> Defects {
    Defects::only(defect)
}

#[cfg(not(debug_assertions))]
fn broken(_: Defect) -> Defects {
    panic!("defects need a build with debug assertions")
}

fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let is_fine = match args.defect {
        _ if args.defects => expect_all_caught(&args),
        Some((defect, name)) => expect_caught(&args, defect, name),
        None => expect_sound(&args),
    };
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Elapsed time of the machine, for how long to go on; no run depends on it.
fn clock() -> impl Fn() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "it decides about no run")]
    let started = std::time::Instant::now();
    move || started.elapsed()
}

fn expect_sound(args: &Args) -> bool {
    let mut totals = counts::Counts::default();
    let mut combined = trace::Trace::new(false);
    let (elapsed, mut passed) = (clock(), 0);
    let goes_on = |passed: u64| match args.minutes {
        Some(minutes) => elapsed() < Duration::from_secs(60 * minutes),
        None => passed < args.seeds,
    };
    if args.minutes.is_some() {
        println!("seeds from {}", args.first);
    }
    while goes_on(passed) {
        let seed = args.first + passed;
        let outcome = world::run(seed, args.mode, Defects::default(), args.trace);
        if let Some(violation) = outcome.violation {
            return failed(args, seed, &violation);
        }
        if args.twice && world::run(seed, args.mode, Defects::default(), false).hash != outcome.hash
        {
            return failed(args, seed, "two runs differ; something is not deterministic");
        }
        if args.seeds == 1 {
            println!("seed {seed}: trace {:016x}", outcome.hash);
        }
        combined.event(format_args!("{seed} {:016x}", outcome.hash));
        totals.add(&outcome.counts);
        passed += 1;
    }
    println!("{totals}");
    println!("trace of all seeds {:016x}", combined.hash());
    println!("simulation: {passed} passed, 0 failed");
    true
}

fn failed(args: &Args, seed: u64, what: &str) -> bool {
    println!("seed {seed}: {what}");
    let mode = Mode::ALL.iter().find(|(mode, _)| *mode == args.mode).map_or("", |(_, name)| name);
    println!("again: cargo test --test simulation -- --mode {mode} --seed {seed} --trace");
    println!("simulation: 0 passed, 1 failed");
    false
}

/// In which runs a defect shows.
fn mode_of(args: &Args, defect: Defect) -> Mode {
    match defect {
        Defect::HogTheLog => Mode::Fair,
        Defect::AppendIntoGap | Defect::GapIsEnd => Mode::Damage,
        _ => args.mode,
    }
}

/// The first seed that catches a defect, and how.
fn caught(args: &Args, defect: Defect) -> Option<(u64, String)> {
    let (seeds, mode) = (args.first..args.first + DEFECT_SEEDS_MAX, mode_of(args, defect));
    let mut runs = seeds.map(|seed| (seed, world::run(seed, mode, broken(defect), args.trace)));
    runs.find_map(|(seed, outcome)| outcome.violation.map(|violation| (seed, violation)))
}

fn expect_caught(args: &Args, defect: Defect, name: &str) -> bool {
    let caught = caught(args, defect);
    match &caught {
        Some((seed, violation)) => println!("defect {name} caught at seed {seed}: {violation}"),
        None => println!("defect {name} was not caught within {DEFECT_SEEDS_MAX} seeds"),
    }
    caught.is_some()
}

fn expect_all_caught(args: &Args) -> bool {
    let mut missed = Vec::new();
    for (defect, name) in Defect::ALL {
        let short = |violation: String| violation.chars().take(120).collect::<String>();
        match caught(args, *defect) {
            Some((seed, violation)) => println!("{name:<28} {seed:>4}  {}", short(violation)),
            None => {
                println!("{name:<28}    -  not within {DEFECT_SEEDS_MAX} seeds");
                missed.push(*name);
            }
        }
    }
    println!("{} defects, missed: {missed:?}", Defect::ALL.len());
    missed.is_empty()
}
