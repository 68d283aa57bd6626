//! `cargo xtask survival`: kills a daemon at random moments and fails if an alert is lost.

use std::convert::Infallible;

use anyhow::Result;

use crate::cargo::become_program;

#[derive(clap::Args)]
pub struct Arguments {
    /// How often the daemon is killed
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// The same seed leads to the same faults and moments
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seed: u64,
}

pub fn survival(arguments: &Arguments) -> Result<Infallible> {
    become_program(
        "survival",
        &["--kills", &arguments.kills.to_string(), "--seed", &arguments.seed.to_string()],
    )
}
