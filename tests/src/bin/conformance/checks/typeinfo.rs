//! The reduced type information resolves to the same offsets as the complete one.

use anyhow::{Result, ensure};

use crate::{report::Outcome, types};

pub fn check() -> Result<Outcome> {
    let (complete, bytes, reduced) = types::both()?;
    ensure!(complete == reduced, "complete: {complete:?}; reduced to {} bytes: {reduced:?}", bytes.len());
    Ok(Outcome::Passed(format!("{} globals, the same when reduced", complete.globals.len())))
}
