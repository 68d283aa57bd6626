//! `cargo xtask chaos`: random faults on many services, while the daemon and its surroundings fail as well.

use std::convert::Infallible;

use anyhow::Result;

use crate::{cargo::become_program, test::packages};

#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds begin for so long
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// The same seed leads to the same rounds; one of the clock if not given
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seed: Option<u64>,
    /// The first round, from 0: that of a failure, to see it again
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// So many rounds at most
    #[arg(long)]
    rounds: Option<u32>,
}

pub fn chaos(arguments: &Arguments) -> Result<Infallible> {
    packages::prepare()?;
    let mut words = vec!["--minutes".to_owned(), arguments.minutes.to_string()];
    if let Some(seed) = arguments.seed {
        words.extend(["--seed".to_owned(), seed.to_string()]);
    }
    words.extend(["--first".to_owned(), arguments.first.to_string()]);
    if let Some(rounds) = arguments.rounds {
        words.extend(["--rounds".to_owned(), rounds.to_string()]);
    }
    become_program("chaos", &words.iter().map(String::as_str).collect::<Vec<_>>())
}
