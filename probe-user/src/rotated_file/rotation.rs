//! When a file rotates, and what becomes of the old ones.

use std::time::Duration;

/// When to rotate a file, and the number of old files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The largest size of a file, in bytes.
    pub max_bytes: u64,
    /// The number of old files; `FILE.1` is the newest.
    pub keep: u32,
    /// The age at which a file is due; None: it may become as old as it likes.
    pub max_age: Option<Duration>,
    /// Whether old files are compressed, but for the newest.
    pub compress: bool,
}

impl Rotation {
    pub const fn by_size(max_bytes: u64, keep: u32) -> Self {
        Self { max_bytes, keep, max_age: None, compress: false }
    }
}
