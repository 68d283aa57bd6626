//! The events that the stream of the fleet does not have yet: a bounded queue on disk.
//!
//! A sink's thread writes it, and the thread of the fleet reads it. What NATS has acknowledged is deleted. While the queue is
//! full, the sink holds further lines in its own bounded queue, and counts as lost what does not fit there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{emit::Destination, host::private_folder};

/// The folder within the state directory.
const FOLDER: &str = "fleet";

/// The size at which a segment is followed by the next one, in bytes.
const SEGMENT: u64 = 1 << 20;

/// The most bytes that are written or read at once.
const CHUNK: usize = 256 << 10;

/// The file that says what is acknowledged.
const CURSOR: &str = "cursor";

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Keeps the folder from being replaced while it is used.
    _open: File,
    most: u64,
    /// The bytes of all segments.
    bytes: AtomicU64,
    /// The segment that is written.
    newest: AtomicU64,
    grown: Notify,
}

impl Shared {
    fn segment(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:012}.ndjson"))
    }
}

#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    file: File,
    size: u64,
}

#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    segment: u64,
    /// What is acknowledged of that segment, in bytes.
    offset: u64,
    /// The segments that are there, the oldest first, with that one.
    oldest: u64,
}

/// Opens the queue in the state directory. The error says why it cannot be used.
pub fn open(state: &Path, most: u64) -> Result<(Writer, Reader), String> {
    let path = state.join(FOLDER);
    let folder = private_folder::open(state).and_then(|_| private_folder::open(&path));
    let folder = folder.map_err(|why| format!("{}: events cannot be kept there: {why}", path.display()))?;
    let failed = |error: io::Error| format!("{}: events cannot be kept there: {error}", path.display());
    let mut segments = segments(&path).map_err(failed)?;
    segments.sort_unstable();
    let newest = segments.last().map_or(1, |(number, _)| number + 1);
    let shared = Arc::new(Shared {
        folder: path.clone(),
        _open: folder,
        most,
        bytes: AtomicU64::new(segments.iter().map(|(_, bytes)| bytes).sum()),
        newest: AtomicU64::new(newest),
        grown: Notify::new(),
    });
    let file = create(&shared.segment(newest)).map_err(failed)?;
    let oldest = segments.first().map_or(newest, |(number, _)| *number);
    let (segment, offset) = cursor(&path).filter(|(segment, _)| *segment >= oldest).unwrap_or((oldest, 0));
    let reader = Reader { shared: Arc::clone(&shared), segment, offset, oldest };
    Ok((Writer { shared, file, size: 0 }, reader))
}

/// The number and the size of each segment.
fn segments(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".ndjson")?.parse().ok());
        found.extend(number.map(|number| (number, entry.metadata().map_or(0, |meta| meta.len()))));
    }
    Ok(found)
}

fn create(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

fn cursor(folder: &Path) -> Option<(u64, u64)> {
    let mut text = String::new();
    File::open(folder.join(CURSOR)).ok()?.take(64).read_to_string(&mut text).ok()?;
    let (segment, offset) = text.trim().split_once(' ')?;
    Some((segment.parse().ok()?, offset.parse().ok()?))
}

impl Destination for Writer {
    fn name(&self) -> String {
        "fleet".to_owned()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let room = self.shared.most.saturating_sub(self.shared.bytes.load(Ordering::Acquire));
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(CHUNK).min(lines.len());
        // Whole lines alone, so that a reader never sees half of one.
        let end = lines[..most].iter().rposition(|byte| *byte == b'\n');
        let Some(end) = end else { return Err(io::ErrorKind::WouldBlock.into()) };
        let lines = &lines[..=end];
        if self.size >= SEGMENT {
            let next = self.shared.newest.load(Ordering::Acquire) + 1;
            self.file = create(&self.shared.segment(next))?;
            self.size = 0;
            self.shared.newest.store(next, Ordering::Release);
        }
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        self.shared.bytes.fetch_add(lines.len() as u64, Ordering::AcqRel);
        self.shared.grown.notify_one();
        Ok(lines.len())
    }
}

/// Some lines from the queue.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    /// Each without its end.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }
}

impl Reader {
    /// The bytes that wait.
    pub fn waiting(&self) -> u64 {
        self.shared.bytes.load(Ordering::Acquire).saturating_sub(self.offset)
    }

    /// The next lines that are not acknowledged. Waits until there are some.
    pub async fn next(&mut self) -> io::Result<Lines> {
        loop {
            // What is written from here on wakes the wait below.
            let newest = self.shared.newest.load(Ordering::Acquire);
            let lines = self.read()?;
            if !lines.bytes.is_empty() {
                return Ok(lines);
            }
            if self.segment < newest {
                self.advance()?;
                continue;
            }
            self.shared.grown.notified().await;
        }
    }

    fn read(&self) -> io::Result<Lines> {
        let mut file = match File::open(self.shared.segment(self.segment)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lines::default()),
            file => file?,
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(CHUNK as u64).read_to_end(&mut bytes)?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(end);
        Ok(Lines { bytes })
    }

    /// The rest of the segment, if there is any, is half a line that a crash has left.
    fn advance(&mut self) -> io::Result<()> {
        let gone = self.oldest..=self.segment;
        (self.segment, self.offset) = (self.segment + 1, 0);
        self.keep()?;
        for number in gone {
            let path = self.shared.segment(number);
            let Ok(meta) = fs::metadata(&path) else { continue };
            fs::remove_file(&path)?;
            self.shared.bytes.fetch_sub(meta.len(), Ordering::AcqRel);
        }
        self.oldest = self.segment;
        Ok(())
    }

    /// These lines are acknowledged.
    pub fn acknowledge(&mut self, lines: &Lines) -> io::Result<()> {
        self.offset += lines.bytes.len() as u64;
        self.keep()
    }

    /// A crash between this and the acknowledgement sends lines again; NATS knows them by their ids.
    fn keep(&self) -> io::Result<()> {
        let (new, path) = (self.shared.folder.join("cursor.new"), self.shared.folder.join(CURSOR));
        fs::write(&new, format!("{} {}\n", self.segment, self.offset))?;
        fs::rename(new, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &Lines) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    #[tokio::test]
    async fn lines_that_are_not_acknowledged_come_again_after_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let (mut writer, mut reader) = open(state.path(), 1 << 20).unwrap();
        assert_eq!(writer.write(b"a\nb\n").unwrap(), 4);
        let lines = reader.next().await.unwrap();
        assert_eq!(texts(&lines), ["a", "b"]);
        reader.acknowledge(&lines).unwrap();
        writer.write(b"c\n").unwrap();
        assert_eq!(texts(&reader.next().await.unwrap()), ["c"]);
        drop((writer, reader));
        let (mut writer, mut reader) = open(state.path(), 1 << 20).unwrap();
        writer.write(b"d\n").unwrap();
        let lines = reader.next().await.unwrap();
        assert_eq!(texts(&lines), ["c"], "the segment of the earlier run comes first");
        reader.acknowledge(&lines).unwrap();
        assert_eq!(texts(&reader.next().await.unwrap()), ["d"]);
        assert_eq!(segments(&state.path().join(FOLDER)).unwrap().len(), 1, "what is sent is deleted");
    }

    #[tokio::test]
    async fn a_full_queue_takes_whole_lines_and_then_none_until_some_are_acknowledged() {
        let state = tempfile::tempdir().unwrap();
        let (mut writer, mut reader) = open(state.path(), 3 << 20).unwrap();
        let line = [vec![b'x'; 100_000], b"\n".to_vec()].concat();
        let mut written = 0;
        let full = loop {
            match writer.write(&line) {
                Ok(bytes) => written += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(written as u64 <= 3 << 20 && written as u64 > 2 << 20);
        let mut read = 0;
        while read < written {
            let lines = reader.next().await.unwrap();
            read += lines.bytes.len();
            reader.acknowledge(&lines).unwrap();
        }
        assert_eq!(read, written);
        // A segment goes once the next one is read, which may be empty yet.
        assert!(reader.waiting() <= SEGMENT + line.len() as u64);
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(10), reader.next()).await;
        assert!(waiting.is_err(), "nothing is left");
        assert!(writer.write(&line).is_ok());
    }
}
