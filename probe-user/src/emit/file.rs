//! A file as a destination, rotated by size and age.

use std::{io, path::Path};

use super::{destination::Destination, error::SinkError};
use crate::rotated_file::{RotatedFile, Rotation};

/// Opens or creates an event file that only its owner and group may read.
pub fn open(path: &Path, rotation: Rotation) -> Result<RotatedFile, SinkError> {
    RotatedFile::open(path, rotation).map_err(SinkError::Refused)
}

impl Destination for RotatedFile {
    fn name(&self) -> String {
        self.path().display().to_string()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // A batch of lines that is larger than a file still goes into one.
        if !self.is_empty() && (lines.len() as u64 > self.room() || self.is_old()) {
            self.rotate();
        }
        self.append(lines)?;
        Ok(lines.len())
    }

    fn reopen(&mut self) -> io::Result<()> {
        Self::reopen(self)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_rotate_by_size_and_the_oldest_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        let mut file = RotatedFile::open(&path, Rotation::by_size(4, 2)).unwrap();
        for line in [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6\n", b"7\n"] {
            assert_eq!(file.write(line).unwrap(), 2);
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(["e", "e.1", "e.2"].map(read), ["7\n", "5\n6\n", "3\n4\n"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn an_error_names_the_file_and_what_to_do() {
        let error = open(Path::new("/nowhere/e"), Rotation::by_size(4, 2)).unwrap_err().to_string();
        assert!(error.contains("/nowhere/e") && error.contains("events.output"), "{error}");
    }
}
