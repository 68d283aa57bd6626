//! The last lines that a service logged: those of a unit in the journal, those of a command in its output.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::{Duration, SystemTime},
};

use sdjournal::{Journal, JournalConfig, SdJournalError};

use crate::{
    clock::Timestamp,
    host::{FileId, OutputRun},
    untrusted_file::{self, FileError},
};

/// The last lines of a process that died may be on their way for this long: journald and the supervisor read them from
/// a socket and a pipe.
pub const WRITTEN: Duration = Duration::from_millis(100);

/// The most lines, and the most bytes of all lines together.
const LINES: usize = 20;
const BYTES: u64 = 4096;

/// The time of a file's change is that of the kernel's latest tick, which is as old as this at most (`HZ=100`).
const TICK: Duration = Duration::from_millis(10);

/// Lines of a run that are older say nothing of its end. The journal's older files need not be searched.
const OLDEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the journal: {0}")]
    Journal(#[from] SdJournalError),
    #[error("{0}")]
    Output(#[from] FileError),
    #[error("the output: {0}")]
    Read(#[from] io::Error),
}

/// Those of one run of a unit. It blocks.
pub fn of_invocation(id: &str) -> Result<Vec<String>, LogError> {
    let config = JournalConfig { max_decompressed_bytes: 64 << 10, ..JournalConfig::default() };
    of_journal(&Journal::open_default_with_config(config)?, id)
}

fn of_journal(journal: &Journal, id: &str) -> Result<Vec<String>, LogError> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = since.saturating_sub(OLDEST).as_micros();
    let mut query = journal.query();
    query.match_exact("_SYSTEMD_INVOCATION_ID", id.as_bytes());
    query.since_realtime(u64::try_from(since).unwrap_or_default()).reverse(true).limit(LINES);
    let mut lines = Lines::default();
    for entry in query.iter()? {
        let entry = entry?;
        let text = String::from_utf8_lossy(entry.get("MESSAGE").unwrap_or_default()).into_owned();
        if !text.lines().rev().all(|line| lines.add_before(line)) {
            break;
        }
    }
    Ok(lines.in_order())
}

/// Those that a unit logged around a moment. It blocks.
pub fn of_unit(unit: &str, at: Timestamp, around: Duration) -> Result<Vec<String>, LogError> {
    let journal = Journal::open_default_with_config(JournalConfig {
        max_decompressed_bytes: 64 << 10,
        ..JournalConfig::default()
    })?;
    let since = at.to_wall().saturating_sub(around).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let mut query = journal.query();
    query.match_exact("_SYSTEMD_UNIT", unit.as_bytes());
    query.since_realtime(u64::try_from(since.as_microsecond()).unwrap_or_default()).limit(LINES);
    let mut found = Vec::new();
    for entry in query.iter()? {
        found.push(String::from_utf8_lossy(entry?.get("MESSAGE").unwrap_or_default()).into_owned());
    }
    Ok(found)
}

/// The last ones of a run in a file, as far as that is known of it, unless the file was last written before the process
/// `started`. It blocks.
pub fn of_output(
    path: &Path,
    started: Option<Timestamp>,
    run: Option<&OutputRun>,
) -> Result<Vec<String>, LogError> {
    let mut file = untrusted_file::open(path)?;
    let modified = jiff::Timestamp::try_from(file.metadata()?.modified()?).unwrap_or_default();
    if started.is_some_and(|started| modified.saturating_add(TICK).is_ok_and(|by| by < started.to_wall())) {
        return Ok(Vec::new());
    }
    let part = match run {
        Some(run) => run.part_of(FileId::of(&file)?),
        None => Some((0, u64::MAX)),
    };
    Ok(match part {
        Some(part) => at_end(&mut file, part)?,
        None => Vec::new(),
    })
}

/// Those at the end of a part of a file.
fn at_end(file: &mut File, (begin, end): (u64, u64)) -> io::Result<Vec<String>> {
    let length = file.metadata()?.len();
    // Where others have cut the file, what it has now came later.
    let begin = if begin > length { 0 } else { begin };
    let end = end.min(length).max(begin);
    let from = end.saturating_sub(BYTES).max(begin);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(end - from).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line may have begun earlier.
    let whole = if from == begin { &*text } else { text.split_once('\n').map_or(&*text, |(_, whole)| whole) };
    let mut lines = Lines::default();
    let _ = whole.lines().rev().all(|line| lines.add_before(line));
    Ok(lines.in_order())
}

/// Lines as far as there is room, latest first.
#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    bytes: usize,
}

impl Lines {
    /// Adds a line that comes before those that are there. False if there is no room for more.
    fn add_before(&mut self, line: &str) -> bool {
        let line = line.trim_end();
        if line.is_empty() {
            return true;
        }
        let room = usize::try_from(BYTES).unwrap_or(usize::MAX) - self.bytes;
        let kept = &line[..line.floor_char_boundary(room)];
        self.bytes += kept.len();
        if !kept.is_empty() {
            self.lines.push(kept.to_owned());
        }
        kept.len() == line.len() && self.lines.len() < LINES
    }

    fn in_order(mut self) -> Vec<String> {
        self.lines.reverse();
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;
    use crate::host::{OutputPlace, OutputRuns};

    fn output(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        fs::write(&path, text).unwrap();
        of_output(&path, None, None).unwrap()
    }

    #[test]
    fn the_last_lines_of_an_output_are_bounded_in_number_and_bytes() {
        assert_eq!(output(""), [""; 0]);
        assert_eq!(output("a\n\n  \nb\r\nc"), ["a", "b", "c"]);
        let many: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        let found = output(&many);
        assert_eq!((found.len(), found[0].as_str(), found[19].as_str()), (LINES, "line 980", "line 999"));
        let long = format!("first\n{}\nlast\n", "x".repeat(5000));
        assert_eq!(output(&long), ["last"], "a line is left out of which the beginning is not there");
        let bytes: usize = output(&"é".repeat(5000)).iter().map(String::len).sum();
        assert!(bytes <= 4096 + 2, "{bytes}");
    }

    #[test]
    fn an_output_that_the_process_did_not_write_to_is_not_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        fs::write(&path, "of an earlier run\n").unwrap();
        let later = Timestamp::now().plus(Duration::from_secs(60));
        assert_eq!(of_output(&path, Some(later), None).unwrap(), [""; 0]);
        File::options().append(true).open(&path).unwrap().write_all(b"now\n").unwrap();
        let before = Timestamp::from_nanos(Timestamp::now().as_nanos() - 1_000_000_000);
        assert_eq!(of_output(&path, Some(before), None).unwrap(), ["of an earlier run", "now"]);
        assert!(of_output(folder.path(), None, None).unwrap_err().to_string().contains("it is a directory"));
    }

    #[test]
    fn the_lines_of_the_next_run_are_not_those_of_the_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        let runs = OutputRuns::default();
        let begin = |text: &str| {
            let mut file = File::options().append(true).create(true).open(&path).unwrap();
            runs.open(OutputPlace::end_of(&file));
            file.write_all(text.as_bytes()).unwrap();
            runs.started();
            runs.latest()
        };
        begin("of an earlier run\n");
        let dead = begin("panic\nlast words\n");
        let many: String = (0..LINES).map(|number| format!("the next run says {number}\n")).collect();
        let silent = (begin(&many), begin("")).1;
        begin("hello\n");
        assert_eq!(of_output(&path, None, Some(&dead)).unwrap(), ["panic", "last words"]);
        assert_eq!(of_output(&path, None, Some(&silent)).unwrap(), [""; 0]);
        fs::write(&path, "cut\n").unwrap();
        assert_eq!(of_output(&path, None, Some(&runs.latest())).unwrap(), ["cut"]);
    }

    #[test]
    fn a_folder_without_a_journal_has_no_lines() {
        let folder = tempfile::tempdir().unwrap();
        let Ok(journal) = Journal::open_dir(folder.path()) else { return };
        assert_eq!(of_journal(&journal, &"0".repeat(32)).unwrap(), [""; 0]);
    }
}
