//! The readers of `/proc` and the cgroup files.
//!
//! Every reader takes the host's root folder, so that tests read their own tree. A process that vanishes during a read
//! is no error. Any other failed read returns its path.

pub mod accounts;
pub mod address;
mod awaited;
pub mod call;
mod candidate;
pub mod capacity;
pub mod ceiling;
pub mod cgroup;
pub mod client;
pub mod connection;
mod file_id;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
pub mod hardware;
pub mod holder;
pub mod listener;
mod login;
pub mod mapping;
mod matcher;
mod memory_group;
pub mod mount;
pub mod open_socket;
pub mod outbound;
mod output_pipe;
mod output_run;
pub mod overview;
mod pid_scope;
pub mod pidfile;
pub mod place;
pub mod pod;
pub mod pressure;
pub mod private_folder;
pub mod process;
mod process_folder;
pub mod queue;
mod remains;
mod scan;
pub mod sockdiag;
pub mod standstill;
mod successor;
pub mod survey;
mod tcp_table;
pub mod thread;
pub mod usage;
pub mod users;
pub mod written;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::descriptors;

pub use self::{
    awaited::Awaited,
    ceiling::Ceiling,
    cgroup::{Cgroups, OwnCgroup, Owner},
    file_id::FileId,
    listener::ListeningSocket,
    matcher::Named,
    memory_group::Resident,
    outbound::Outbound,
    output_run::{OutputPlace, OutputRun, OutputRuns},
    pid_scope::PidScope,
    process::{ProcReader, is_there},
    remains::Remains,
    scan::{Scan, Scanning},
    successor::LeftProcesses,
    survey::Survey,
    usage::Usage,
};

#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct ReadError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl ReadError {
    fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { path, source }
    }
}

/// Most files of `/proc` are shorter, so that one read gets the whole file.
const USUAL: usize = 4096;

/// A process that cannot be read because no descriptor is left must not look as if it had ended.
fn open(path: &Path) -> io::Result<File> {
    descriptors::reserved(|| File::open(path), descriptors::is_exhausted)
}

/// A file's bytes, at most `limit` of them.
fn read_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL);
    open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// [`read_bytes`] for a file that the kernel generates whole, such as `stat`, `status`, `cgroup` and `cmdline` of a
/// process: a read that does not fill its buffer got all of it, and needs no second read.
fn read_record(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_whole(open(path)?, limit, <[u8]>::to_vec)
}

/// The same of an open file. The bytes are on the stack: threads that read all processes share one heap.
fn read_whole<T>(mut file: File, limit: u64, parse: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    let mut bytes = [0; USUAL];
    let length = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if length < USUAL {
        return Ok(parse(&bytes[..length]));
    }
    let mut bytes = bytes.to_vec();
    file.take(limit.saturating_sub(USUAL as u64)).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

/// A file's text, at most `limit` bytes. Invalid UTF-8 is replaced.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let bytes = read_bytes(path, limit)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

#[cfg(test)]
pub(crate) mod fake;
