//! `cargo xtask quiet`: counts the messages about the same faults, of hostprobe and its peers.

use std::convert::Infallible;

use anyhow::{Result, ensure};

use crate::{cargo::become_program, test::packages};

/// The peers' Debian packages that no test needs.
const PEERS: [&str; 3] = ["monit", "prometheus", "prometheus-blackbox-exporter"];

/// Installs the peers, builds in release mode, and becomes the count.
pub fn quiet() -> Result<Infallible> {
    packages::prepare()?;
    let missing = packages::provide(&PEERS)?;
    ensure!(
        missing.is_empty(),
        "packages {}: missing; run this as root on Debian, or install the programs",
        missing.join(", ")
    );
    become_program("quiet", &[])
}
