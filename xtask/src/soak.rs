//! `cargo xtask soak`: runs a daemon under load and fails if its memory grows.

use std::convert::Infallible;

use anyhow::Result;

use crate::cargo::become_program;

#[derive(clap::Args)]
pub struct Arguments {
    /// How long to run
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

pub fn soak(arguments: &Arguments) -> Result<Infallible> {
    become_program("soak", &["--minutes", &arguments.minutes.to_string()])
}
