//! The events that the stream of the fleet does not have yet: a bounded queue on disk.
//!
//! A sink's thread writes it, and the thread of the fleet has it read (`queue.rs`). What NATS has acknowledged is deleted.
//! While the queue is full, the sink holds further lines in its own bounded queue, and counts as lost what does not fit there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

/// Segments with greater numbers are none: the numbers of a queue never get there.
const NUMBER_MAX: u64 = 1 << 48;

/// The file that says what is acknowledged.
const CURSOR: &str = "cursor";

/// What the writer, the reader and those who wait for them share.
#[derive(Debug)]
pub(super) struct Shared {
    folder: PathBuf,
    /// Keeps the folder from being replaced while it is used.
    _open: File,
    most: u64,
    /// The bytes of all segments.
    bytes: AtomicU64,
    /// The segment that is written.
    newest: AtomicU64,
    /// The reader does not find that segment: another program has deleted it.
    is_missing: AtomicBool,
    /// The lines that NATS does not take and the sink does not know of yet.
    lost: AtomicU64,
    pub(super) grown: Notify,
}

impl Shared {
    fn segment(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:012}.ndjson"))
    }

    /// The bytes of all segments, which includes acknowledged ones of the oldest.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// So many lines are given up. The sink counts them.
    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::AcqRel);
    }

    /// A deletion by another program can make the sum of the segments smaller than what is taken from it.
    fn subtract(&self, bytes: u64) {
        let less = |sum: u64| Some(sum.saturating_sub(bytes));
        let _ = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
}

/// A place in the queue. Later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    segment: u64,
    /// In bytes from the start of the segment.
    offset: u64,
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
    /// What is before it is acknowledged.
    acknowledged: Position,
    /// The segment from which on lines are of this run of the daemon.
    first_own: u64,
}

/// Opens the queue in the state directory. The error says why it cannot be used.
pub fn open(state: &Path, most: u64) -> Result<(Writer, Reader), String> {
    let path = state.join(FOLDER);
    let folder = private_folder::open(state).and_then(|_| private_folder::open(&path));
    let folder = folder.map_err(|why| format!("{}: events cannot be kept there: {why}", path.display()))?;
    let failed = |error: io::Error| format!("{}: events cannot be kept there: {error}", path.display());
    let mut segments = segments(&path).map_err(failed)?;
    let newest = segments.last().map_or(1, |(number, _)| number + 1);
    let shared = Arc::new(Shared {
        folder: path.clone(),
        _open: folder,
        most,
        bytes: AtomicU64::new(segments.iter().map(|(_, bytes)| bytes).sum()),
        newest: AtomicU64::new(newest),
        is_missing: AtomicBool::new(false),
        lost: AtomicU64::new(0),
        grown: Notify::new(),
    });
    // Each start makes a segment. Without NATS, none of them would go.
    segments.retain(|(number, bytes)| *bytes > 0 || fs::remove_file(shared.segment(*number)).is_err());
    let file = create(&shared.segment(newest)).map_err(failed)?;
    let oldest = Position { segment: segments.first().map_or(newest, |(number, _)| *number), offset: 0 };
    let known = cursor(&path).filter(|known| *known >= oldest && known.segment < newest);
    let reader =
        Reader { shared: Arc::clone(&shared), acknowledged: known.unwrap_or(oldest), first_own: newest };
    Ok((Writer { shared, file, size: 0 }, reader))
}

/// The number and the size of each segment, the oldest first.
fn segments(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".ndjson")?.parse().ok());
        let number = number.filter(|number| *number < NUMBER_MAX);
        found.extend(number.map(|number| (number, entry.metadata().map_or(0, |meta| meta.len()))));
    }
    found.sort_unstable();
    Ok(found)
}

fn create(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

fn cursor(folder: &Path) -> Option<Position> {
    let mut text = String::new();
    File::open(folder.join(CURSOR)).ok()?.take(64).read_to_string(&mut text).ok()?;
    let (segment, offset) = text.trim().split_once(' ')?;
    Some(Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
}

impl Destination for Writer {
    fn name(&self) -> String {
        "fleet".to_owned()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.shared.is_missing.swap(false, Ordering::AcqRel) {
            // What is deleted takes no room.
            let left = segments(&self.shared.folder)?.iter().map(|(_, bytes)| bytes).sum();
            self.shared.bytes.store(left, Ordering::Release);
            self.size = SEGMENT;
        }
        let room = self.shared.most.saturating_sub(self.shared.bytes());
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
        if let Err(error) = self.file.write_all(lines) {
            // A part may be written. Half a line ends its segment, as a crash leaves it; the sink writes all again, and NATS
            // knows whole lines that come twice by their ids.
            let size = self.file.metadata().map_or(self.size, |meta| meta.len());
            self.shared.bytes.fetch_add(size.saturating_sub(self.size), Ordering::AcqRel);
            self.size = SEGMENT;
            return Err(error);
        }
        self.size += lines.len() as u64;
        self.shared.bytes.fetch_add(lines.len() as u64, Ordering::AcqRel);
        self.shared.grown.notify_one();
        Ok(lines.len())
    }

    fn take_lost(&mut self) -> u64 {
        self.shared.lost.swap(0, Ordering::AcqRel)
    }
}

/// Some lines from the queue.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    start: Position,
    /// Whether an earlier run of the daemon has written them.
    pub(super) is_earlier: bool,
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Each without its end, and the position that follows it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Position)> {
        let mut end = self.start;
        let lines = self.bytes.split_inclusive(|byte| *byte == b'\n').map(move |line| {
            end.offset += line.len() as u64;
            (line.strip_suffix(b"\n").unwrap_or(line), end)
        });
        lines.filter(|(line, _)| !line.is_empty())
    }
}

impl Reader {
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The next lines that are not acknowledged; none if there are none yet.
    pub(super) fn read(&mut self) -> io::Result<Lines> {
        loop {
            // What is written from here on notifies those who wait.
            let newest = self.shared.newest.load(Ordering::Acquire);
            let lines = self.read_segment(newest)?;
            if !lines.is_empty() || self.acknowledged.segment >= newest {
                return Ok(lines);
            }
            self.advance(newest)?;
        }
    }

    fn read_segment(&self, newest: u64) -> io::Result<Lines> {
        let Position { segment, offset } = self.acknowledged;
        let mut file = match File::open(self.shared.segment(segment)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if segment >= newest {
                    self.shared.is_missing.store(true, Ordering::Release);
                }
                return Ok(Lines::default());
            }
            file => file?,
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(CHUNK as u64).read_to_end(&mut bytes)?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(end);
        Ok(Lines { bytes, start: self.acknowledged, is_earlier: segment < self.first_own })
    }

    /// The rest of the segment, if there is any, is half a line that a crash has left.
    fn advance(&mut self, newest: u64) -> io::Result<()> {
        let segments = segments(&self.shared.folder)?;
        let (gone, left): (Vec<_>, Vec<_>) =
            segments.into_iter().partition(|(number, _)| *number <= self.acknowledged.segment);
        let next = left.first().map_or(newest, |(number, _)| *number).min(newest);
        self.acknowledge(Position { segment: next, offset: 0 })?;
        for (number, bytes) in gone {
            fs::remove_file(self.shared.segment(number))?;
            self.shared.subtract(bytes);
        }
        Ok(())
    }

    /// What is before this position is acknowledged. A crash between that and this sends lines again; NATS knows them by
    /// their ids.
    pub(super) fn acknowledge(&mut self, end: Position) -> io::Result<()> {
        self.acknowledged = end;
        let (new, path) = (self.shared.folder.join("cursor.new"), self.shared.folder.join(CURSOR));
        fs::write(&new, format!("{} {}\n", end.segment, end.offset))?;
        fs::rename(new, path)
    }
}

#[cfg(test)]
#[path = "spool/tests.rs"]
mod tests;
