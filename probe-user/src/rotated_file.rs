//! A file that is appended to and rotated by size and age: `FILE` becomes `FILE.1`, that `FILE.2`, and so on.

mod old;
mod rotation;

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use self::old::OldFiles;
pub use self::rotation::Rotation;

use crate::untrusted_file::{self, Access, FileError, Kind};

#[derive(Debug)]
pub struct RotatedFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    kind: Kind,
    /// The size up to the last whole append, in bytes.
    size: u64,
    /// When its first line came, as far as that is known.
    began: SystemTime,
    old: Arc<OldFiles>,
    /// What was appended last ended in the middle of a line.
    ends_in_line: bool,
    /// The latest rotation failed, and a warning said so.
    has_warned: bool,
}

impl RotatedFile {
    /// Opens or creates a file that only its owner and group may read. A torn last line is ended.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Self, FileError> {
        let failed = |error: io::Error| FileError { path: path.to_owned(), reason: error.into() };
        let (mut file, kind) = untrusted_file::append(path, Access::ReadAndAppend, 0o640)?;
        let size = end_last_line(&mut file, kind).map_err(failed)?;
        Ok(Self::of(path, rotation, (file, kind, size)))
    }

    /// The same, but a last line without an end goes on. Returns its length, `most` at most; None if the file ends with a
    /// whole line.
    pub fn open_in_line(
        path: &Path,
        rotation: Rotation,
        most: usize,
    ) -> Result<(Self, Option<usize>), FileError> {
        let failed = |error: io::Error| FileError { path: path.to_owned(), reason: error.into() };
        let (mut file, kind) = untrusted_file::append(path, Access::ReadAndAppend, 0o640)?;
        let size = file.metadata().map_err(failed)?.len();
        let begun = if kind == Kind::Regular { unended(&mut file, size, most).map_err(failed)? } else { 0 };
        let opened = Self { ends_in_line: begun > 0, ..Self::of(path, rotation, (file, kind, size)) };
        Ok((opened, Some(begun).filter(|begun| *begun > 0)))
    }

    /// A file of this size, which ends with a whole line.
    fn of(path: &Path, rotation: Rotation, (file, kind, size): (File, Kind, u64)) -> Self {
        Self {
            path: path.to_owned(),
            rotation,
            began: began(&file),
            old: OldFiles::new(path, rotation),
            file,
            kind,
            size,
            ends_in_line: false,
            has_warned: false,
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    pub fn ends_in_line(&self) -> bool {
        self.ends_in_line
    }

    /// How many bytes fit before the file is to rotate.
    pub fn room(&self) -> u64 {
        // A device or a FIFO is not renamed.
        if self.kind == Kind::Regular { self.rotation.max_bytes.saturating_sub(self.size) } else { u64::MAX }
    }

    /// Whether the file is as old as one may become. An empty one is not: it begins with its first line.
    pub fn is_old(&self) -> bool {
        let age = self.began.elapsed().unwrap_or_default();
        !self.is_empty()
            && self.kind == Kind::Regular
            && self.rotation.max_age.is_some_and(|most| age >= most)
    }

    /// Appends all of it, or nothing: a full disk may take a part, which is cut off again.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                if self.is_empty() {
                    self.began = SystemTime::now();
                }
                self.size += bytes.len() as u64;
                self.ends_in_line = !bytes.ends_with(b"\n");
                Ok(())
            }
            Err(error) => {
                // If even that fails, the next open ends the line.
                let _ = self.file.set_len(self.size);
                Err(error)
            }
        }
    }

    /// Begins a new file. If that fails, as in a folder that is not writable, the present one grows further and nothing is
    /// lost.
    pub fn rotate(&mut self) -> bool {
        let rotated = self.old.push().and_then(|()| self.reopen());
        self.old.compress();
        if let Err(error) = &rotated
            && !self.has_warned
        {
            tracing::warn!("{}: could not rotate the file: {error}", self.path.display());
        }
        self.has_warned = rotated.is_err();
        rotated.is_ok()
    }

    /// Whether the file is the one at its path. Others may remove it, move it or cut it (`logrotate(8)`).
    pub fn is_in_place(&mut self) -> bool {
        if self.kind != Kind::Regular {
            return true;
        }
        let (Ok(own), Ok(found)) = (self.file.metadata(), fs::metadata(&self.path)) else { return false };
        self.size = self.size.min(own.len());
        (own.dev(), own.ino()) == (found.dev(), found.ino())
    }

    pub fn reopen(&mut self) -> io::Result<()> {
        let opened = Self::open(&self.path, self.rotation).map_err(io::Error::other)?;
        // The old files stay the same ones, which may be compressed at the moment.
        *self = Self { old: Arc::clone(&self.old), ..opened };
        Ok(())
    }
}

/// When a file was made; the present, where the file system does not say.
fn began(file: &File) -> SystemTime {
    file.metadata().and_then(|meta| meta.created()).unwrap_or_else(|_| SystemTime::now())
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

/// The length of the last line if it has no end, `most` at most.
fn unended(file: &mut File, size: u64, most: usize) -> io::Result<usize> {
    let length = usize::try_from(size).unwrap_or(most).min(most);
    let mut end = vec![0; length];
    file.seek(SeekFrom::Start(size - length as u64))?;
    file.read_exact(&mut end)?;
    Ok(end.iter().rposition(|byte| *byte == b'\n').map_or(length, |at| length - at - 1))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use super::*;

    fn read(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn open(path: &Path) -> RotatedFile {
        RotatedFile::open(path, Rotation::by_size(4, 2)).unwrap()
    }

    #[test]
    fn a_new_file_is_private_and_an_old_one_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        open(&path).append(b"1\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
        open(&path).append(b"2\n").unwrap();
        assert_eq!(read(&path), "1\n2\n");
    }

    #[test]
    fn a_line_without_an_end_goes_on_if_its_writer_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        let again = |most| RotatedFile::open_in_line(&path, Rotation::by_size(99, 2), most).unwrap();
        assert_eq!(again(9).1, None);
        fs::write(&path, "one\ntwo").unwrap();
        let (mut file, begun) = again(9);
        assert_eq!((begun, file.ends_in_line(), file.room()), (Some(3), true, 92));
        assert_eq!(again(2).1, Some(2));
        file.append(b" and a half\n").unwrap();
        assert_eq!(again(9).1, None);
        assert_eq!(read(&path), "one\ntwo and a half\n");
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        fs::write(&path, "{\"torn\":").unwrap();
        open(&path).append(b"{}\n").unwrap();
        assert_eq!(read(&path), "{\"torn\":\n{}\n");
    }

    #[test]
    fn a_rotation_keeps_so_many_old_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        let mut file = open(&path);
        for line in [b"1\n", b"2\n", b"3\n", b"4\n"] {
            file.append(line).unwrap();
            assert_eq!((file.room(), file.is_empty()), (2, false));
            file.rotate();
            assert_eq!((file.room(), file.is_empty()), (4, true));
        }
        assert_eq!(["e", "e.1", "e.2"].map(|name| read(folder.path().join(name))), ["", "4\n", "3\n"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_is_old_by_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        let rotation = |max_age| Rotation { max_age: Some(max_age), ..Rotation::by_size(99, 2) };
        let mut file = RotatedFile::open(&path, rotation(Duration::ZERO)).unwrap();
        assert!(!file.is_old(), "it is empty");
        file.append(b"1\n").unwrap();
        assert!(file.is_old());
        assert!(!RotatedFile::open(&path, rotation(Duration::from_secs(60))).unwrap().is_old());
        assert!(!open(&path).is_old());
    }

    #[test]
    fn a_rotation_that_fails_loses_nothing_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, in_the_way) = (folder.path().join("e"), folder.path().join("e.1"));
        let mut file = RotatedFile::open(&path, Rotation::by_size(2, 1)).unwrap();
        file.append(b"1\n").unwrap();
        fs::create_dir(&in_the_way).unwrap();
        assert!(!file.rotate() && file.has_warned);
        file.append(b"2\n").unwrap();
        assert_eq!((read(&path).as_str(), file.room()), ("1\n2\n", 0));
        fs::remove_dir(&in_the_way).unwrap();
        assert!(file.rotate() && !file.has_warned);
        file.append(b"3\n").unwrap();
        assert_eq!((read(&in_the_way).as_str(), read(&path).as_str()), ("1\n2\n", "3\n"));
    }

    #[test]
    fn a_file_that_was_removed_is_there_again_after_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        let mut file = open(&path);
        file.append(b"1\n").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(file.rotate());
        file.append(b"2\n").unwrap();
        assert_eq!(read(&path), "2\n");
    }

    #[test]
    fn a_reopen_leaves_a_moved_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("e"), folder.path().join("moved"));
        let mut file = open(&path);
        file.append(b"1\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        file.append(b"2\n").unwrap();
        file.reopen().unwrap();
        file.append(b"3\n").unwrap();
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("1\n2\n", "3\n"));
    }

    #[test]
    fn a_file_that_others_move_or_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        let mut file = open(&path);
        file.append(b"123\n").unwrap();
        assert!(file.is_in_place() && file.room() == 0);
        File::create(&path).unwrap();
        assert!(file.is_in_place() && file.room() == 4, "it was cut");
        fs::rename(&path, folder.path().join("moved")).unwrap();
        assert!(!file.is_in_place());
        file.reopen().unwrap();
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(!file.is_in_place());
        assert!(open(Path::new("/dev/null")).is_in_place());
    }

    #[test]
    fn a_full_disk_is_an_error_and_a_device_does_not_rotate() {
        let mut file = open(Path::new("/dev/full"));
        assert_eq!(file.append(b"1\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.room(), u64::MAX);
    }
}
