//! The headers of musl for another machine. The cross compiler brings those of glibc, by which SQLite calls functions that
//! musl does not have, such as `open64`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::machine::Machine;
use crate::{
    apt::{Apt, MAIN, cache},
    nightly::output,
};

/// The options by which a compiler for the machine takes musl's headers, and its own in place of those of glibc.
pub fn options(machine: Machine, compiler: &str) -> Result<String> {
    let own = output(Command::new(compiler).arg("-print-file-name=include"))?;
    Ok(format!("-nostdinc -isystem {} -isystem {own}", of_musl(machine)?.display()))
}

/// Fetches them now, or takes them from the cache.
fn of_musl(machine: Machine) -> Result<PathBuf> {
    let folder = cache()?.join("musl").join(machine.uname());
    let headers = folder.join("include");
    if !headers.exists() {
        let apt = Apt::new(&folder, machine.debian(), &[(MAIN, "bookworm")])?;
        let unpacked = apt.unpack("musl-dev").context("cannot fetch the headers of musl")?;
        let found = unpacked.join(format!("usr/include/{}-linux-musl", machine.uname()));
        fs::rename(&found, &headers).with_context(|| format!("cannot move {}", found.display()))?;
        apt.clear()?;
    }
    Ok(headers)
}
