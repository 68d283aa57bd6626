//! The event streams of all daemons under test, held against the Elastic Common Schema together: an index takes a field
//! with one type only, whichever test's daemon published the event.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::cargo::{announce, command, root};

/// The folder that the tests' daemons leave their streams in.
pub struct Streams {
    pub folder: PathBuf,
}

impl Streams {
    /// The variable that names the folder to the tests.
    pub const VARIABLE: &str = "HOSTPROBE_STREAMS";

    /// Creates the folder, without the streams of an earlier run.
    pub fn prepare() -> Result<Self> {
        let folder = root().join("target/streams");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("{}: cannot be removed", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
        Ok(Self { folder })
    }

    /// Checks all streams that the tests left, and prints what is wrong with them. True if nothing is.
    pub fn check(&self) -> Result<bool> {
        if fs::read_dir(&self.folder)?.next().is_none() {
            return Ok(true);
        }
        let mut check = command(&["run", "-q", "-p", "hostprobe-tests", "--bin", "ecs_check", "--"]);
        check.arg(&self.folder);
        announce(&check);
        Ok(check.status().context("cannot run the check of the streams")?.success())
    }
}
