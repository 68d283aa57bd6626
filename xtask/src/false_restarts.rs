//! `cargo xtask false-restarts`: counts the restarts of services that are well, of hostprobe and its peers.

use std::convert::Infallible;

use anyhow::{Result, ensure};

use crate::{cargo::become_program, test::packages};

#[derive(clap::Args)]
pub struct Arguments {
    /// The troubles happen again and again for so long, and at least once
    #[arg(long, default_value_t = 60)]
    minutes: u32,
}

/// Installs Monit, builds in release mode, and becomes the count.
pub fn false_restarts(arguments: &Arguments) -> Result<Infallible> {
    packages::prepare()?;
    let missing = packages::provide(&["monit"])?;
    ensure!(
        missing.is_empty(),
        "packages {}: missing; run this as root on Debian, or install the programs",
        missing.join(", ")
    );
    become_program("false_restarts", &["--minutes", &arguments.minutes.to_string(), "--write"])
}
