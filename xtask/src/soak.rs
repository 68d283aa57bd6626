//! `cargo xtask soak`: runs a daemon with all its features under load and fails if its memory grows.

use std::convert::Infallible;

use anyhow::Result;

use crate::{cargo::become_program, test::packages};

#[derive(clap::Args)]
pub struct Arguments {
    /// How long to run
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,

    /// Write the figures into docs/soak.md
    #[arg(long)]
    write: bool,
}

/// Installs the servers, builds in release mode, and becomes the soak.
pub fn soak(arguments: &Arguments) -> Result<Infallible> {
    packages::prepare()?;
    let minutes = arguments.minutes.to_string();
    let mut words = vec!["--minutes", &minutes];
    words.extend(arguments.write.then_some("--write"));
    become_program("soak", &words)
}
