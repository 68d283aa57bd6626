//! `cargo xtask bench`: what hostprobe costs and how fast it is, beside its peers.

use std::convert::Infallible;

use anyhow::{Result, ensure};

use crate::{cargo::become_program, test::packages};

/// The Debian packages of the peers, beyond those the tests need.
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

/// What follows `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Measure only as much as shows that everything works, and write no file
    #[arg(long)]
    quick: bool,
    /// The sections to measure; all if none is named
    sections: Vec<String>,
}

/// Gets the peers, builds everything as it is shipped, and becomes the benchmark.
pub fn bench(arguments: &Arguments) -> Result<Infallible> {
    packages::prepare()?;
    let missing = packages::provide(&PEERS)?;
    ensure!(
        missing.is_empty(),
        "missing packages: {}; they can only be installed as root on Debian",
        missing.join(" ")
    );
    let quick = arguments.quick.then_some("--quick");
    let words: Vec<&str> = quick.into_iter().chain(arguments.sections.iter().map(String::as_str)).collect();
    become_program("bench", &words)
}
