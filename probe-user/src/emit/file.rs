//! A file as a destination, rotated by size.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{destination::Destination, error::SinkError};
use crate::untrusted_file::{self, Access, FileError, Kind};

/// When to rotate a file, and the number of old files.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// The largest size of a file, in bytes. A larger batch of lines still goes into one file.
    pub max_bytes: u64,
    /// The number of old files; `FILE.1` is the newest.
    pub keep: u32,
}

impl Default for Rotation {
    /// 100 MiB, and three old ones.
    fn default() -> Self {
        Self { max_bytes: 100 << 20, keep: 3 }
    }
}

#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    kind: Kind,
    /// The size up to the last whole line, in bytes.
    size: u64,
    /// The latest rotation failed, and a warning said so.
    has_warned: bool,
}

impl EventFile {
    /// Opens or creates a file that only its owner and group may read.
    pub fn open(path: &Path) -> Result<Self, SinkError> {
        Self::with_rotation(path, Rotation::default())
    }

    /// [`Self::open`] with other limits.
    pub fn with_rotation(path: &Path, rotation: Rotation) -> Result<Self, SinkError> {
        let (mut file, kind) = open(path).map_err(SinkError::Refused)?;
        let size = end_last_line(&mut file, kind)
            .map_err(|source| SinkError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), rotation, file, kind, size, has_warned: false })
    }

    /// `FILE` becomes `FILE.1`, that `FILE.2`, and so on; the oldest is overwritten.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.rotation.keep).rev() {
            match fs::rename(self.old(number), self.old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if self.rotation.keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            fs::rename(&self.path, self.old(1))?;
        }
        self.reopen()
    }

    fn old(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Destination for EventFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // A device or a FIFO is not renamed.
        let rotates = self.kind == Kind::Regular && self.size > 0;
        if rotates && self.size + lines.len() as u64 > self.rotation.max_bytes {
            // If the folder is not writable, the file grows further and no event is lost.
            let rotated = self.rotate();
            if let Err(error) = &rotated
                && !self.has_warned
            {
                tracing::warn!("{}: could not rotate the file: {error}", self.path.display());
            }
            self.has_warned = rotated.is_err();
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.size += lines.len() as u64;
                Ok(lines.len())
            }
            Err(error) => {
                // A full disk may have taken a part. The file is cut to its last whole line, so that a reader never
                // sees a torn one. If even that fails, the next open ends the line.
                let _ = self.file.set_len(self.size);
                Err(error)
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let (mut file, kind) = open(&self.path).map_err(io::Error::other)?;
        self.size = end_last_line(&mut file, kind)?;
        (self.file, self.kind) = (file, kind);
        Ok(())
    }
}

fn open(path: &Path) -> Result<(File, Kind), FileError> {
    untrusted_file::append(path, Access::ReadAndAppend, 0o640)
}

/// Ends the last line if it is torn, and returns the file's size.
fn end_last_line(file: &mut File, kind: Kind) -> io::Result<u64> {
    let mut size = file.metadata()?.len();
    if size > 0 && kind == Kind::Regular {
        // The daemon or the host may have died in the middle of a line. This ends the line.
        let mut last = [0];
        if file.seek(SeekFrom::Start(size - 1)).and_then(|_| file.read_exact(&mut last)).is_ok()
            && last != *b"\n"
        {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_new_file_is_private_and_an_old_one_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        EventFile::open(&path).unwrap().write(b"1\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
        EventFile::open(&path).unwrap().write(b"2\n").unwrap();
        assert_eq!(read(&path), "1\n2\n");
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        fs::write(&path, "{\"torn\":").unwrap();
        EventFile::open(&path).unwrap().write(b"{}\n").unwrap();
        assert_eq!(read(&path), "{\"torn\":\n{}\n");
    }

    #[test]
    fn files_rotate_by_size_and_the_oldest_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        let mut file = EventFile::with_rotation(&path, Rotation { max_bytes: 4, keep: 2 }).unwrap();
        for line in [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6\n", b"7\n"] {
            assert_eq!(file.write(line).unwrap(), 2);
        }
        assert_eq!(read(&path), "7\n");
        assert_eq!(read(folder.path().join("e.1")), "5\n6\n");
        assert_eq!(read(folder.path().join("e.2")), "3\n4\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_rotation_that_fails_loses_no_line_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, in_the_way) = (folder.path().join("e"), folder.path().join("e.1"));
        fs::create_dir(&in_the_way).unwrap();
        let mut file = EventFile::with_rotation(&path, Rotation { max_bytes: 2, keep: 1 }).unwrap();
        for line in [b"1\n", b"2\n"] {
            file.write(line).unwrap();
        }
        assert!(file.has_warned);
        assert_eq!(read(&path), "1\n2\n");
        fs::remove_dir(&in_the_way).unwrap();
        file.write(b"3\n").unwrap();
        assert!(!file.has_warned);
        assert_eq!((read(&in_the_way).as_str(), read(&path).as_str()), ("1\n2\n", "3\n"));
    }

    #[test]
    fn a_reopen_leaves_a_moved_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("e"), folder.path().join("moved"));
        let mut file = EventFile::open(&path).unwrap();
        file.write(b"1\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        file.write(b"2\n").unwrap();
        file.reopen().unwrap();
        file.write(b"3\n").unwrap();
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("1\n2\n", "3\n"));
    }

    #[test]
    fn a_full_disk_is_an_error_that_leaves_no_torn_line() {
        let full = Path::new("/dev/full");
        let mut file = EventFile::open(full).unwrap();
        assert_eq!(file.write(b"1\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn an_error_names_the_file_and_what_to_do() {
        let error = EventFile::open(Path::new("/nowhere/e")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/e") && error.contains("events.output"), "{error}");
    }
}
