//! By what a changed file is recognized without reading it.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Inode, length, and the times of a file's content and of its inode. None for a file that cannot be looked at.
pub type Stamp = Option<[i64; 6]>;

/// Those of several files.
pub type Stamps = Vec<Stamp>;

/// The stamp of the file at a path now. It may block.
pub fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    let (inode, length) = (meta.ino().cast_signed(), meta.size().cast_signed());
    Some([inode, length, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
}
