//! `cargo xtask demo`: real faults, and what hostprobe makes of them, for a person.

use std::convert::Infallible;

use anyhow::Result;

use crate::cargo::become_program;

/// Builds everything as it is shipped, and becomes the demonstration.
pub fn demo() -> Result<Infallible> {
    become_program("demo", &[])
}
