//! `cargo xtask demo`: shows a person how hostprobe finds and mends real faults.

use std::convert::Infallible;

use anyhow::Result;

use crate::cargo::become_program;

pub fn demo() -> Result<Infallible> {
    become_program("demo", &[])
}
