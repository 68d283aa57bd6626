//! `cargo xtask bench`: measures what hostprobe costs and how fast it is, beside its peers.

use std::convert::Infallible;

use anyhow::{Result, ensure};

use crate::{cargo::become_program, test::packages};

/// The peers' Debian packages that no test needs.
const PEERS: [&str; 8] = [
    "curl",
    "libbpf-tools",
    "monit",
    "netdata-core",
    "prometheus",
    "prometheus-blackbox-exporter",
    "supervisor",
    "wrk",
];

#[derive(clap::Args)]
pub struct Arguments {
    /// Measure once and briefly, to see that every section works; write no file
    #[arg(long)]
    quick: bool,
    /// The sections to measure; all, if none is named
    sections: Vec<String>,
}

/// Installs the peers, builds in release mode, and becomes the benchmark.
pub fn bench(arguments: &Arguments) -> Result<Infallible> {
    packages::prepare()?;
    let missing = packages::provide(&PEERS)?;
    ensure!(
        missing.is_empty(),
        "packages {}: missing; run this as root on Debian, or install the programs",
        missing.join(", ")
    );
    let quick = arguments.quick.then_some("--quick");
    let words: Vec<&str> = quick.into_iter().chain(arguments.sections.iter().map(String::as_str)).collect();
    become_program("bench", &words)
}
