//! The shape of a check.

use anyhow::Result;

use crate::{fixture::Fixture, report::Outcome};

/// Name and function of a check.
pub type Check = (&'static str, fn() -> Result<Outcome>);

/// Name and function of a check that uses the loaded programs.
pub type FixtureCheck = (&'static str, fn(&mut Fixture) -> Result<Outcome>);

/// Attempts at a check while the programs, or the process connector, report the loss of a record that it needs.
pub const TRIES: u32 = 5;
