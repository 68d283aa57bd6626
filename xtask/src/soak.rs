//! `cargo xtask soak`: a daemon under processes that come and go, for a quarter of an hour.

use std::convert::Infallible;

use anyhow::Result;

use crate::cargo::become_program;

/// What follows `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How long
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

/// Builds everything as it is shipped, and becomes the soak.
pub fn soak(arguments: &Arguments) -> Result<Infallible> {
    become_program("soak", &["--minutes", &arguments.minutes.to_string()])
}
