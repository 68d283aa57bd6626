//! The folder of a process in `/proc`, open.
//!
//! The kernel finds a file faster in an open folder than by its whole path. And all files are those of one process: once
//! that has ended, they cannot be read, whichever process has its pid by then.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::{Mode, OFlags, open, openat, readlinkat};

use super::read_whole;
use crate::descriptors;

/// Longer than most paths of programs.
const LINK: usize = 256;

#[derive(Debug)]
pub(super) struct ProcessFolder(OwnedFd);

impl ProcessFolder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        opened(|| open(path, flags, Mode::empty())).map(Self)
    }

    /// What `parse` makes of a file's bytes, of which there are at most `limit`.
    pub(super) fn read<T>(&self, name: &CStr, limit: u64, parse: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let file = opened(|| openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))?;
        read_whole(File::from(file), limit, parse)
    }

    pub(super) fn link(&self, name: &CStr) -> io::Result<CString> {
        Ok(readlinkat(&self.0, name, Vec::with_capacity(LINK))?)
    }
}

/// A process that cannot be read because no descriptor is left must not look as if it had ended.
fn opened(open: impl Fn() -> rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    descriptors::reserved(|| open().map_err(io::Error::from), descriptors::is_exhausted)
}
