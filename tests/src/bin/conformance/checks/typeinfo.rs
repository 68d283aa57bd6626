//! What is recorded of a kernel's type information says the same as the whole of it.

use anyhow::{Result, ensure};

use crate::{report::Outcome, types};

pub fn check() -> Result<Outcome> {
    let (by_whole, reduced, by_reduced) = types::both()?;
    ensure!(
        by_whole == by_reduced,
        "whole: {by_whole:?}; reduced to {} bytes: {by_reduced:?}",
        reduced.len()
    );
    Ok(Outcome::Kept(format!("{} globals, the same when reduced", by_whole.globals.len())))
}
