//! `cargo xtask properties`: the engine's property test, for longer than a test run takes.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{command, run};

/// The test repeats itself for this number of minutes.
const MINUTES: &str = "HOSTPROBE_PROPERTIES_MINUTES";

#[derive(clap::Args)]
pub struct Arguments {
    /// How long to run
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

pub fn properties(arguments: &Arguments) -> Result<ExitCode> {
    let test = ["test", "--release", "-p", "hostprobe", "--lib", "--", "engine::tests::properties"];
    run(command(&test).env(MINUTES, arguments.minutes.to_string()))?;
    Ok(ExitCode::SUCCESS)
}
