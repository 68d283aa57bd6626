//! The lines of a command's output: with the time before each on request, and in files of a limited size.

use std::{fs, io};

use crate::{
    config::Exec,
    host::OutputPlace,
    rotated_file::{RotatedFile, Rotation},
    untrusted_file::FileError,
};

/// A line with more bytes goes on in a line of its own where lines have stamps, and in the next file.
const LINE_MAX: usize = 64 << 10;

/// Lines that could not be written to a file.
#[derive(Debug)]
pub struct LostLines {
    pub count: u64,
    pub error: io::Error,
}

fn rotation(exec: &Exec) -> Rotation {
    Rotation::by_size(exec.output_max.unwrap_or(u64::MAX), exec.output_keep)
}

#[derive(Debug)]
pub(super) struct Lines {
    file: RotatedFile,
    stamps: bool,
    /// The bytes of the line that has not ended; None before its first one.
    begun: Option<usize>,
    /// A piece with its stamps; kept for its room.
    stamped: Vec<u8>,
    lost: Option<LostLines>,
    /// The file did not take what came last.
    has_gap: bool,
    /// The rest of a line whose beginning was lost is to be skipped.
    skips: bool,
}

impl Lines {
    /// Opens the output file of a command.
    pub(super) fn open(exec: &Exec) -> Result<Self, FileError> {
        let file = RotatedFile::open(&exec.output, rotation(exec))?;
        Ok(Self::of(file, None, exec))
    }

    /// Opens it as an earlier daemon left it: the command may be in the middle of a line.
    pub(super) fn open_again(exec: &Exec) -> Result<Self, FileError> {
        let (file, begun) = RotatedFile::open_in_line(&exec.output, rotation(exec), LINE_MAX)?;
        Ok(Self::of(file, begun, exec))
    }

    fn of(file: RotatedFile, begun: Option<usize>, exec: &Exec) -> Self {
        Self {
            file,
            stamps: exec.output_stamp,
            begun,
            stamped: Vec::new(),
            lost: None,
            has_gap: false,
            skips: false,
        }
    }

    /// Takes the place of the lines of an earlier start, with the count of those that it lost.
    pub(super) fn replace(mut self, earlier: &mut Option<Self>) {
        self.lost = earlier.take().and_then(|earlier| earlier.lost);
        *earlier = Some(self);
    }

    /// Writes a piece that was read at `now`. It need not end with a line.
    pub(super) fn write(&mut self, piece: &[u8], now: jiff::Timestamp) {
        if !self.stamps {
            return self.put(piece);
        }
        let stamp = format!("{now:.3} ");
        let mut stamped = std::mem::take(&mut self.stamped);
        stamped.clear();
        let mut begun = self.begun;
        for part in piece.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(LINE_MAX)) {
            if begun.is_some_and(|begun| begun + part.len() > LINE_MAX) {
                stamped.push(b'\n');
                begun = None;
            }
            if begun.is_none() {
                stamped.extend(stamp.bytes());
            }
            stamped.extend(part);
            begun = if part.ends_with(b"\n") { None } else { Some(begun.unwrap_or(0) + part.len()) };
        }
        self.put(&stamped);
        self.stamped = stamped;
    }

    /// Where the next piece comes in the file.
    pub(super) fn place(&self) -> Option<OutputPlace> {
        OutputPlace::end_of(self.file.file())
    }

    /// The lines that the file did not take since the last time.
    pub(super) fn take_lost(&mut self) -> Option<LostLines> {
        self.lost.take()
    }

    pub(super) fn has_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Appends bytes, and rotates the file between two lines.
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.file.room()).unwrap_or(usize::MAX);
            let cut = if bytes.len() <= room {
                bytes.len()
            } else if let Some(last) = bytes[..room].iter().rposition(|byte| *byte == b'\n') {
                last + 1
            } else if self.begun.is_none_or(|begun| begun >= LINE_MAX) && !self.file.is_empty() {
                if self.file.rotate() {
                    continue;
                }
                // The file that remains takes all of it.
                bytes.len()
            } else {
                // The line ends in the file in which it began.
                bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1)
            };
            let (head, rest) = bytes.split_at(cut);
            self.append(head);
            bytes = rest;
        }
    }

    /// Makes the file again if it was moved or removed, maybe with its folder. Ends a line whose end was lost.
    fn restore(&mut self) -> io::Result<()> {
        if !self.file.is_in_place() {
            if let Some(folder) = self.file.path().parent() {
                fs::create_dir_all(folder)?;
            }
            self.file.reopen()?;
        }
        if self.has_gap && self.file.ends_in_line() { self.file.append(b"\n") } else { Ok(()) }
    }

    fn append(&mut self, bytes: &[u8]) {
        let ended = bytes.iter().rposition(|byte| *byte == b'\n');
        let begun = match ended {
            Some(end) => bytes.len() - end - 1,
            None => self.begun.unwrap_or(0) + bytes.len(),
        };
        self.begun = Some(begun).filter(|begun| *begun > 0);
        let mut bytes = bytes;
        if self.skips {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
            self.skips = false;
            bytes = &bytes[end + 1..];
        }
        if bytes.is_empty() {
            return;
        }
        let written = self.restore().and_then(|()| self.file.append(bytes));
        self.has_gap = written.is_err();
        if let Err(error) = written {
            self.skips = !bytes.ends_with(b"\n");
            let unended = usize::from(!bytes.ends_with(b"\n"));
            let count = bytes.iter().filter(|byte| **byte == b'\n').count() + unended;
            let before = self.lost.take().map_or(0, |lost| lost.count);
            self.lost = Some(LostLines { count: before + count as u64, error });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const NOW: &str = "2026-11-28T13:57:36.123Z";

    fn lines(path: &Path, max: Option<u64>, stamps: bool) -> Lines {
        let exec = Exec {
            output: path.to_owned(),
            output_max: max,
            output_keep: 3,
            output_stamp: stamps,
            ..Exec::default()
        };
        Lines::open(&exec).unwrap()
    }

    fn write(lines: &mut Lines, pieces: &[&[u8]]) {
        pieces.iter().for_each(|piece| lines.write(piece, NOW.parse().unwrap()));
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn each_line_has_one_stamp_however_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        write(&mut lines(&path, None, true), &[b"one\ntw", b"o\n", b"\nthree", b"\n", b"torn"]);
        let stamped =
            ["one", "two", "", "three", "torn"].map(|line| format!("2026-11-28T13:57:36.123Z {line}"));
        assert_eq!(read(&path), stamped.join("\n"));
        // The next start begins with a line of its own.
        write(&mut lines(&path, None, true), &[b"next\n"]);
        assert_eq!(read(&path).lines().last(), Some("2026-11-28T13:57:36.123Z next"));
        assert_eq!(read(&path).lines().count(), 6);
    }

    #[test]
    fn a_file_that_vanishes_with_its_folder_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/web.log");
        fs::create_dir(folder.path().join("logs")).unwrap();
        let mut lines = lines(&path, Some(10), false);
        write(&mut lines, &[b"1\n"]);
        fs::remove_dir_all(folder.path().join("logs")).unwrap();
        write(&mut lines, &[b"2\n"]);
        assert_eq!(read(&path), "2\n");
        // No folder can be made in the place of a file.
        let logs = folder.path().join("logs");
        write(&mut lines, &[b"begun"]);
        fs::rename(&logs, folder.path().join("moved")).unwrap();
        fs::write(&logs, "").unwrap();
        write(&mut lines, &[b" lost\n4\nlo", b"st", b" too\n"]);
        assert_eq!(lines.take_lost().map(|lost| lost.count), Some(3));
        fs::remove_file(&logs).unwrap();
        fs::rename(folder.path().join("moved"), &logs).unwrap();
        write(&mut lines, &[b"5\n"]);
        assert_eq!((read(&path).as_str(), lines.take_lost().is_none()), ("2\nbegun\n5\n", true));
    }

    #[test]
    fn a_line_without_an_end_is_cut_into_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        let endless = vec![b'x'; 3 * LINE_MAX + 5];
        write(&mut lines(&path, None, true), &endless.chunks(LINE_MAX - 7).collect::<Vec<_>>());
        let text = read(&path);
        assert!(
            text.lines().all(|line| line.starts_with("2026-") && line.len() <= LINE_MAX + 25),
            "{}",
            text.lines().count()
        );
        assert_eq!(text.bytes().filter(|byte| *byte == b'x').count(), endless.len());
    }

    #[test]
    fn a_file_rotates_between_lines_and_a_line_that_is_too_long_does_not_stop_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        let of = |number: u32| read(&folder.path().join(format!("web.log.{number}")));
        let mut short = lines(&path, Some(10), false);
        write(&mut short, &[b"123\n456\n789\nab", b"cdefgh\nijk\n"]);
        // A line that is begun ends in its file.
        assert_eq!([of(2), of(1), read(&path)], ["123\n456\n", "789\nabcdefgh\n", "ijk\n"]);
        write(&mut short, &[b"x"]);
        let endless = vec![b'y'; LINE_MAX];
        write(&mut short, &[&endless, &endless, b"z"]);
        let sizes = [of(3), of(2), of(1), read(&path)].map(|text| text.len());
        assert_eq!(sizes.iter().sum::<usize>(), 13 + 5 + 2 * LINE_MAX + 1);
        assert!(sizes.iter().all(|size| *size <= 2 * LINE_MAX + 5), "{sizes:?}");
    }
}
