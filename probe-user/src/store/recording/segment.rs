//! The files of a recording: bounded segments, of which the oldest is deleted.
//!
//! A segment belongs to one run of the daemon, and its name has the run: `00000042-c0ffee00.ndjson`. The numbers
//! continue over all runs. Each segment begins with the run's start, so that it can be read alone.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};

use crate::{emit::Destination, host::private_folder};

/// The folder of the recording within the state directory.
pub const FOLDER: &str = "recording";

/// The number of segments of a full recording. A smaller number would delete more of the past at once.
const SEGMENTS: u64 = 8;

/// The most files, whatever their size: each start of the daemon begins a segment.
const MOST_FILES: usize = 256;

/// The end of a segment's name.
const EXTENSION: &str = ".ndjson";

/// The limits of a recording's size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All segments together, in bytes.
    total: u64,
    /// One segment, in bytes.
    segment: u64,
}

impl Limits {
    /// The limits of a recording of this number of bytes; None for 0, which turns it off.
    pub const fn of(total: u64) -> Option<Self> {
        if total == 0 { None } else { Some(Self { total, segment: total / SEGMENTS }) }
    }
}

/// The segments of a run in progress.
#[derive(Debug)]
pub(super) struct Segments {
    path: PathBuf,
    folder: File,
    run: String,
    /// The header of each segment.
    header: Vec<u8>,
    limits: Limits,
    file: File,
    /// The size of the segment in progress, in bytes.
    size: u64,
}

impl Segments {
    /// Creates the folder if it is missing, and the first segment of a run. The error names the reason.
    pub(super) fn open(path: &Path, run: &str, header: Vec<u8>, limits: Limits) -> Result<Self, String> {
        let folder = private_folder::open(path)?;
        let file = create(&folder, run).map_err(|error| error.to_string())?;
        let (path, run) = (path.to_owned(), run.to_owned());
        let mut segments = Self { path, folder, run, header, limits, file, size: 0 };
        segments.begin().map_err(|error| error.to_string())?;
        Ok(segments)
    }

    fn next(&mut self) -> io::Result<()> {
        self.file = create(&self.folder, &self.run)?;
        self.size = 0;
        self.begin()
    }

    /// Writes the header, after it has made room for this segment.
    fn begin(&mut self) -> io::Result<()> {
        self.file.write_all(&self.header)?;
        self.size = self.header.len() as u64;
        if let Err(error) = self.delete_oldest() {
            tracing::warn!("{}: could not delete the oldest segments: {error}", self.path.display());
        }
        Ok(())
    }

    /// Deletes the oldest segments until the rest and a full segment fit. The present segment has the highest number
    /// and stays.
    fn delete_oldest(&self) -> io::Result<()> {
        let mut segments = list(&self.folder)?;
        segments.pop_last();
        let mut sizes = BTreeMap::new();
        for (number, name) in &segments {
            let stat = statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                sizes.insert(*number, (name, u64::try_from(stat.st_size).unwrap_or(0)));
            }
        }
        let mut left: u64 = sizes.values().map(|(_, size)| size).sum();
        let room = self.limits.total.saturating_sub(self.limits.segment);
        while let Some((_, (name, size))) = sizes.first_key_value()
            && (left > room || sizes.len() >= MOST_FILES)
        {
            unlinkat(&self.folder, name.as_str(), AtFlags::empty())?;
            left -= size;
            sizes.pop_first();
        }
        Ok(())
    }

    /// The number of bytes of these lines, in whole lines, that fit into the segment; at least one line in an empty
    /// segment.
    fn fitting(&self, lines: &[u8]) -> usize {
        let room = usize::try_from(self.limits.segment.saturating_sub(self.size)).unwrap_or(usize::MAX);
        if lines.len() <= room {
            return lines.len();
        }
        let end = |part: &[u8]| part.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
        let is_empty = self.size <= self.header.len() as u64;
        end(&lines[..room]).unwrap_or_else(|| {
            let first = lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |at| at + 1);
            if is_empty { first } else { 0 }
        })
    }
}

impl Destination for Segments {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut fitting = self.fitting(lines);
        if fitting == 0 {
            self.next()?;
            fitting = self.fitting(lines);
        }
        if let Err(error) = self.file.write_all(&lines[..fitting]) {
            // A full disk may have taken a part of a line. The file is cut to its last whole line, so that a reader
            // never sees a torn one.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += fitting as u64;
        Ok(fitting)
    }
}

/// Creates the segment with the next free number.
fn create(folder: &File, run: &str) -> io::Result<File> {
    let flags =
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let last = list(folder)?.last_key_value().map_or(0, |(number, _)| *number);
    // Another daemon with the same state directory may create one at the same time.
    for number in last + 1..last + 100 {
        let name = format!("{number:08}-{run}{EXTENSION}");
        match openat(folder, name.as_str(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok(file.into()),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The segments in an open folder, by number.
fn list(folder: &File) -> io::Result<BTreeMap<u64, String>> {
    // An own descriptor has its own position in the listing.
    let listing = openat(folder, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut segments = BTreeMap::new();
    for entry in Dir::new(listing)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if let Some((number, _)) = parse(name) {
            segments.insert(number, name.to_owned());
        }
    }
    Ok(segments)
}

/// The number and the run of a segment; None for any other file name.
fn parse(name: &str) -> Option<(u64, &str)> {
    let (number, run) = name.strip_suffix(EXTENSION)?.split_once('-')?;
    let digits = number.len() >= 8 && number.bytes().all(|byte| byte.is_ascii_digit());
    let hex = run.len() == 8 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits && hex).then_some(())?;
    Some((number.parse().ok()?, run))
}

/// The files of a recording in the order to read them: run by run. `path` is a segment, or any other file with a
/// recording; the folder of a recording; or a state directory.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let within = path.join(FOLDER);
    let folder = if within.is_dir() { within } else { path.to_owned() };
    let segments = list(&File::open(&folder)?)?;
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ordered = Vec::new();
    for (number, name) in &segments {
        let run = parse(name).map_or("", |(_, run)| run);
        ordered.push((*first.entry(run).or_insert(*number), *number, folder.join(name)));
    }
    ordered.sort();
    Ok(ordered.into_iter().map(|(_, _, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HEADER: &[u8] = b"start\n";

    fn open(path: &Path, run: &str, total: u64) -> Segments {
        Segments::open(path, run, HEADER.to_vec(), Limits::of(total).unwrap()).unwrap()
    }

    fn names(path: &Path) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        files(path).unwrap().into_iter().map(name).collect()
    }

    fn write(segments: &mut Segments, lines: &[u8]) {
        let mut written = 0;
        while written < lines.len() {
            written += segments.write(&lines[written..]).unwrap();
        }
    }

    #[test]
    fn segments_are_private_bounded_and_begin_with_the_start() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(FOLDER);
        let mut segments = open(&path, "c0ffee00", 800);
        for _ in 0..100 {
            write(&mut segments, &[b"0123456789012345678\n".as_slice(); 3].concat());
        }
        let files = files(state.path()).unwrap();
        assert!((8..=9).contains(&files.len()), "{files:?}");
        let mut total = 0;
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            assert!(text.starts_with("start\n0") && text.ends_with("8\n") && text.len() <= 100, "{text}");
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
            total += text.len();
        }
        assert!((700..=800).contains(&total), "{total}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_line_longer_than_a_segment_has_one_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = open(folder.path(), "c0ffee00", 160);
        let long = [b"x".repeat(50).as_slice(), b"\n"].concat();
        write(&mut segments, &[b"1\n", long.as_slice(), b"2\n"].concat());
        let texts: Vec<_> =
            files(folder.path()).unwrap().iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        let long = format!("start\n{}\n", "x".repeat(50));
        assert_eq!(texts, ["start\n1\n", &long, "start\n2\n"]);
    }

    #[test]
    fn the_segments_of_two_runs_are_read_run_by_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = open(folder.path(), "c0ffee00", 160);
        let mut other = open(folder.path(), "c0ffee01", 160);
        for _ in 0..3 {
            write(&mut one, b"0123456789\n");
            write(&mut other, b"0123456789\n");
        }
        fs::write(folder.path().join("notes.txt"), "no segment").unwrap();
        let order = [
            "00000001-c0ffee00.ndjson",
            "00000003-c0ffee00.ndjson",
            "00000005-c0ffee00.ndjson",
            "00000002-c0ffee01.ndjson",
            "00000004-c0ffee01.ndjson",
            "00000006-c0ffee01.ndjson",
        ];
        assert_eq!(names(folder.path()), order);
    }

    #[test]
    fn many_short_runs_leave_a_bounded_number_of_files() {
        let folder = tempfile::tempdir().unwrap();
        for run in 0..MOST_FILES + 10 {
            open(folder.path(), &format!("{run:08x}"), 1 << 20);
        }
        assert_eq!(files(folder.path()).unwrap().len(), MOST_FILES);
    }

    #[test]
    fn a_folder_that_is_not_the_daemons_own_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Segments::open(folder.path(), "c0ffee00", Vec::new(), Limits::of(800).unwrap());
        assert!(refused.unwrap_err().contains("mode 777"));
    }
}
