//! The identity of a file, whatever its name.

use std::{fmt, io, os::fd::AsFd};

use rustix::fs::{Stat, fstat};
use serde::{Deserialize, Serialize};

/// A file or a pipe, for as long as it exists and the host does not boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from(&fstat(file)?))
    }

    /// The identity that its [`fmt::Display`] has written.
    pub fn read(text: &str) -> Option<Self> {
        let (device, inode) = text.split_once(':')?;
        Some(Self { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }
}

impl From<&Stat> for FileId {
    fn from(file: &Stat) -> Self {
        Self { device: file.st_dev, inode: file.st_ino }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}
