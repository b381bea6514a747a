//! The command line.

use crate::profile::Mode;
use brainy::base::defect::Defect;
use brainy::base::rng::{Rng, SeededRng};

/// Seeds that a plain `cargo test` runs.
const SEEDS_DEFAULT: u64 = 20;

/// What is asked for.
pub struct Args {
    pub mode: Mode,
    pub first: u64,
    pub seeds: u64,
    /// Fresh seeds for so long, instead of a number of them.
    pub minutes: Option<u64>,
    pub trace: bool,
    pub twice: bool,
    pub defect: Option<(Defect, &'static str)>,
    /// All defects, one after another.
    pub defects: bool,
}

pub fn parse() -> Result<Args, String> {
    let mut args = Args {
        mode: Mode::Mixed,
        first: 0,
        seeds: SEEDS_DEFAULT,
        minutes: None,
        trace: false,
        twice: false,
        defect: None,
        defects: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match word.as_str() {
            "--mode" => args.mode = named(Mode::ALL, &value()?)?.0,
            "--seeds" => args.seeds = number(value()?)?,
            "--first" => args.first = number(value()?)?,
            "--seed" => (args.first, args.seeds) = (number(value()?)?, 1),
            "--minutes" => {
                args.minutes = Some(number(value()?)?);
                // Seeds that nobody has met, of a length that people can type.
                args.first = SeededRng::from_os().below(1 << 40);
            }
            "--trace" => args.trace = true,
            "--twice" => args.twice = true,
            "--defect" => args.defect = Some(named(Defect::ALL, &value()?)?),
            "--defects" => args.defects = true,
            // What the test runner of cargo passes to every test binary.
            _ if word.starts_with("--") => {}
            _ => {}
        }
    }
    Ok(args)
}

fn named<T: Copy>(all: &[(T, &'static str)], name: &str) -> Result<(T, &'static str), String> {
    let known = all.iter().find(|(_, known)| *known == name);
    let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
    known.copied().ok_or(format!("{name} is none of {names:?}"))
}
