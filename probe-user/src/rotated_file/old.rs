//! The old files of a rotated file: their names, and their compression.
//!
//! `FILE.1` stays as it is, for a program that still reads it. Older ones become `FILE.N.zst`, on a thread of its own, one after
//! the other; nothing waits for that. A file that cannot be compressed stays as it is, and is tried again at the next rotation.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ruzstd::encoding::{CompressionLevel, compress};

use super::rotation::Rotation;
use crate::{
    bounded_thread,
    untrusted_file::{self, Access},
};

/// The first old file that is compressed.
const FIRST_COMPRESSED: u32 = 2;

/// Who compresses has the least claim to a CPU (`setpriority(2)`).
const NICE: i32 = 19;

#[derive(Debug)]
pub(super) struct OldFiles {
    path: PathBuf,
    rotation: Rotation,
    /// Held while files change their names.
    names: Mutex<()>,
    is_compressing: AtomicBool,
}

impl OldFiles {
    pub fn new(path: &Path, rotation: Rotation) -> Arc<Self> {
        let (path, names) = (path.to_owned(), Mutex::new(()));
        Arc::new(Self { path, rotation, names, is_compressing: AtomicBool::new(false) })
    }

    /// Makes the file the newest of the old ones. The oldest is deleted.
    pub fn push(&self) -> io::Result<()> {
        let _names = self.names();
        let keep = self.rotation.keep;
        for number in (1..keep).rev() {
            // The place is free, or taken by a file that a rotation without compression left.
            for (from, to) in
                [(self.plain(number), self.plain(number + 1)), (self.packed(number), self.packed(number + 1))]
            {
                if present(fs::rename(&from, &to))? {
                    let other = if to == self.plain(number + 1) {
                        self.packed(number + 1)
                    } else {
                        self.plain(number + 1)
                    };
                    present(fs::remove_file(other))?;
                }
            }
        }
        // Without the file, an earlier rotation could not open a new one, or an operator removed it.
        if keep == 0 {
            present(fs::remove_file(&self.path)).map(drop)
        } else {
            present(fs::remove_file(self.packed(1)))?;
            present(fs::rename(&self.path, self.plain(1))).map(drop)
        }
    }

    /// Has a thread compress what is to be compressed, unless one does already.
    pub fn compress(self: &Arc<Self>) {
        if !self.rotation.compress || self.is_compressing.swap(true, Ordering::AcqRel) {
            return;
        }
        let files = Arc::clone(self);
        let started = bounded_thread::start("compress", move || {
            make_nice();
            if let Err(error) = files.compress_all() {
                tracing::warn!("{}: could not compress an old file: {error}", files.path.display());
            }
            files.is_compressing.store(false, Ordering::Release);
        });
        if let Err(error) = started {
            tracing::warn!("{}: old files are not compressed: {error}", self.path.display());
            self.is_compressing.store(false, Ordering::Release);
        }
    }

    fn compress_all(&self) -> io::Result<()> {
        // Each turn has one file less to compress, but for those that a rotation adds meanwhile.
        for _ in 0..self.rotation.keep {
            let oldest = (FIRST_COMPRESSED..=self.rotation.keep).rev().map(|number| self.plain(number));
            let Some(oldest) = oldest.into_iter().find(|path| path.exists()) else { break };
            self.compress_one(&oldest)?;
        }
        Ok(())
    }

    fn compress_one(&self, path: &Path) -> io::Result<()> {
        let source = untrusted_file::open(path).map_err(io::Error::other)?;
        let meta = source.metadata()?;
        let unfinished = self.named("zst.tmp");
        present(fs::remove_file(&unfinished))?;
        let made = pack(source, &unfinished).and_then(|()| {
            let _names = self.names();
            // A rotation may have given it another name meanwhile, or deleted it.
            let is_it = |path: &PathBuf| {
                fs::symlink_metadata(path)
                    .is_ok_and(|found| (found.dev(), found.ino()) == (meta.dev(), meta.ino()))
            };
            let found = (1..=self.rotation.keep).find(|number| is_it(&self.plain(*number)));
            let Some(number) = found else { return fs::remove_file(&unfinished) };
            fs::rename(&unfinished, self.packed(number))?;
            fs::remove_file(self.plain(number))
        });
        if made.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        made
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plain(&self, number: u32) -> PathBuf {
        self.named(&number.to_string())
    }

    fn packed(&self, number: u32) -> PathBuf {
        self.named(&format!("{number}.zst"))
    }

    fn named(&self, end: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{end}"));
        name.into()
    }
}

/// Writes a copy of a file in the format of zstd (RFC 8878). It holds some hundred kilobytes of it at a time.
fn pack(source: File, target: &Path) -> io::Result<()> {
    let (target, _) = untrusted_file::append(target, Access::Append, 0o640).map_err(io::Error::other)?;
    let (mut source, mut target) =
        (Guarded::new(BufReader::new(source)), Guarded::new(BufWriter::new(target)));
    compress(&mut source, &mut target, CompressionLevel::Fastest);
    source.end()?;
    target.end()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The compressor panics where a read or a write fails. This ends the source and takes all output instead, and keeps the error.
struct Guarded<F> {
    file: F,
    error: Option<io::Error>,
}

impl<F> Guarded<F> {
    fn new(file: F) -> Self {
        Self { file, error: None }
    }

    fn end(self) -> io::Result<F> {
        self.error.map_or(Ok(self.file), Err)
    }
}

impl<F: Read> Read for Guarded<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.error.is_some() {
            return Ok(0);
        }
        loop {
            match self.file.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error = Some(error);
                    return Ok(0);
                }
                read => return read,
            }
        }
    }
}

impl<F: Write> Write for Guarded<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.error.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.error = Some(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn make_nice() {
    // It concerns the calling thread alone (`setpriority(2)`, on threads of Linux). Without it, the work is only less polite.
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// Whether a file was moved or removed. One that does not exist need not be.
fn present(moved: io::Result<()>) -> io::Result<bool> {
    match moved {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StaleNetworkFileHandle.into())
        }
    }

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_read_or_a_write_that_fails_is_an_error_and_no_panic() {
        let (mut source, mut target) = (Guarded::new(Failing), Guarded::new(Vec::new()));
        compress(&mut source, &mut target, CompressionLevel::Fastest);
        assert_eq!(source.end().map(drop).unwrap_err().kind(), io::ErrorKind::StaleNetworkFileHandle);
        let (mut source, mut target) = (Guarded::new(&b"text"[..]), Guarded::new(Failing));
        compress(&mut source, &mut target, CompressionLevel::Fastest);
        assert_eq!(target.end().map(drop).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn old_files_but_the_newest_are_compressed_and_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        let files = OldFiles::new(&path, Rotation { compress: true, ..Rotation::by_size(9, 3) });
        let line = "{\"event\":{\"action\":\"probe.fail\"}}\n".repeat(2000);
        for text in ["a\n", &line, "c\n", "d\n"] {
            fs::write(&path, text).unwrap();
            files.push().unwrap();
            files.compress_all().unwrap();
        }
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["e.1", "e.2.zst", "e.3.zst"]);
        assert_eq!(fs::read_to_string(files.plain(1)).unwrap(), "d\n");
        for (number, text) in [(2, "c\n"), (3, &*line)] {
            let packed = fs::read(files.packed(number)).unwrap();
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(&*packed).unwrap();
            let mut unpacked = String::new();
            decoder.read_to_string(&mut unpacked).unwrap();
            assert!(unpacked == text, "{number}");
            assert!(text.len() < 1000 || packed.len() * 10 < text.len(), "{} bytes", packed.len());
        }
    }

    #[test]
    fn a_file_that_a_rotation_moved_meanwhile_is_found_and_one_without_room_stays_plain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        let files = OldFiles::new(&path, Rotation { compress: true, ..Rotation::by_size(9, 3) });
        for text in ["a", "b"] {
            fs::write(&path, text).unwrap();
            files.push().unwrap();
        }
        // In the place of the file that compression writes, there is a folder.
        fs::create_dir(files.named("zst.tmp")).unwrap();
        assert!(files.compress_all().is_err());
        assert_eq!(fs::read_to_string(files.plain(2)).unwrap(), "a");
    }
}
