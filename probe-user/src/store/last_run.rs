//! Whether the host was shut down before it was started again: what the last run of the daemon left, and what the host
//! keeps of its own shutdowns.
//!
//! A run that ends says so in a file. One that does not ended with the host, or was killed. A later boot with such a file,
//! and without a shutdown in `wtmp(5)`, was not wanted.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const FILE: &str = "last_run";
const RUNS: &str = "running";
const ENDED: &str = "ended";

/// The file is a line of an id and a word.
const LONGEST: u64 = 256;

/// A shutdown begins this long after the daemon was last seen, at most, or before it.
const AROUND: Duration = Duration::from_secs(300);

/// The end of `wtmp` that is read: a few hundred records.
const TAIL: u64 = 256 << 10;

/// `struct utmp` as glibc has it on all 64-bit hosts: type, line, user, seconds.
const RECORD: usize = 384;
const RUN_LEVEL: u16 = 1;
const USER_AT: usize = 44;
const SECONDS_AT: usize = 340;

/// The file of the present run.
#[derive(Clone, Debug)]
pub struct LastRun {
    path: PathBuf,
    boot_id: String,
}

/// What an earlier run left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierRun {
    boot_id: String,
    has_ended: bool,
    pub last_seen: SystemTime,
}

impl LastRun {
    /// Replaces the file, and returns what was in it.
    pub fn begin(directory: &Path, boot_id: &str) -> (Self, Option<EarlierRun>) {
        let run = Self { path: directory.join(FILE), boot_id: boot_id.to_owned() };
        let earlier = run.read();
        if let Err(error) = run.write(RUNS) {
            let path = run.path.display();
            tracing::warn!(
                "{path}: cannot be written: {error}; a later run cannot tell whether the host crashed"
            );
        }
        (run, earlier)
    }

    /// The daemon still runs. Its file shows when that was last so.
    pub fn touch(&self) {
        if let Ok(file) = File::options().write(true).open(&self.path) {
            let _ = file.set_modified(SystemTime::now());
        }
    }

    pub fn end(&self) {
        let _ = self.write(ENDED);
    }

    fn write(&self, word: &str) -> io::Result<()> {
        fs::write(&self.path, format!("{} {word}\n", self.boot_id))
    }

    fn read(&self) -> Option<EarlierRun> {
        let file = File::open(&self.path).ok()?;
        let last_seen = file.metadata().ok()?.modified().ok()?;
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        let (boot_id, word) = text.trim().split_once(' ')?;
        Some(EarlierRun { boot_id: boot_id.to_owned(), has_ended: word == ENDED, last_seen })
    }
}

impl EarlierRun {
    /// How long the host was off, or ran without a daemon, before this boot.
    pub fn off_before(&self, boot_id: &str, booted: jiff::Timestamp) -> Duration {
        if self.boot_id == boot_id {
            return Duration::ZERO;
        }
        let last_seen = jiff::Timestamp::try_from(self.last_seen).unwrap_or(booted);
        Duration::try_from(booted.duration_since(last_seen)).unwrap_or_default()
    }

    /// Whether the host was started again without a shutdown since.
    pub fn was_cut_off(&self, boot_id: &str, wtmp: &Path) -> bool {
        let is_other_boot = !boot_id.is_empty() && !self.boot_id.is_empty() && self.boot_id != boot_id;
        is_other_boot && !self.has_ended && !was_shut_down(wtmp, self.last_seen)
    }
}

/// Whether `wtmp` has a shutdown at about this time or later.
fn was_shut_down(wtmp: &Path, since: SystemTime) -> bool {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(AROUND);
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(wtmp)?;
        let whole = file.metadata()?.len() / RECORD as u64;
        let skipped = whole.saturating_sub(TAIL / RECORD as u64) * RECORD as u64;
        file.seek(SeekFrom::Start(skipped))?;
        let mut records = Vec::new();
        file.take(TAIL).read_to_end(&mut records)?;
        Ok(records)
    };
    let records = read().unwrap_or_default();
    records.chunks_exact(RECORD).any(|record| {
        let kind = u16::from_ne_bytes([record[0], record[1]]);
        let seconds = record[SECONDS_AT..].first_chunk::<4>().map_or(0, |it| u32::from_ne_bytes(*it));
        kind == RUN_LEVEL
            && record[USER_AT..].starts_with(b"shutdown\0")
            && u64::from(seconds) >= since.as_secs()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u16, user: &str, at: SystemTime) -> Vec<u8> {
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as u32;
        let mut record = vec![0; RECORD];
        record[..2].copy_from_slice(&kind.to_ne_bytes());
        record[USER_AT..USER_AT + user.len()].copy_from_slice(user.as_bytes());
        record[SECONDS_AT..SECONDS_AT + 4].copy_from_slice(&seconds.to_ne_bytes());
        record
    }

    #[test]
    fn only_another_boot_without_an_end_and_without_a_shutdown_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let wtmp = folder.path().join("wtmp");
        let (first, earlier) = LastRun::begin(folder.path(), "boot-1");
        assert_eq!(earlier, None);
        first.touch();
        let (_, earlier) = LastRun::begin(folder.path(), "boot-1");
        assert!(!earlier.unwrap().was_cut_off("boot-1", &wtmp), "the daemon was killed");
        let (third, earlier) = LastRun::begin(folder.path(), "boot-2");
        let earlier = earlier.unwrap();
        assert!(earlier.was_cut_off("boot-2", &wtmp));
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let long_ago = record(RUN_LEVEL, "shutdown", earlier.last_seen - minutes(60));
        let boot = record(2, "reboot", earlier.last_seen + minutes(1));
        fs::write(&wtmp, [long_ago.clone(), boot.clone()].concat()).unwrap();
        assert!(earlier.was_cut_off("boot-2", &wtmp), "that was another shutdown");
        let shutdown = record(RUN_LEVEL, "shutdown", earlier.last_seen);
        fs::write(&wtmp, [long_ago, shutdown, boot, vec![1; 7]].concat()).unwrap();
        assert!(!earlier.was_cut_off("boot-2", &wtmp), "the daemon was killed before");
        third.end();
        let (_, earlier) = LastRun::begin(folder.path(), "boot-3");
        assert!(!earlier.unwrap().was_cut_off("boot-3", &folder.path().join("none")));
    }

    #[test]
    fn a_file_that_says_nothing_is_no_earlier_run() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "\n", "boot", "\0\0\0"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(LastRun::begin(folder.path(), "boot-1").1, None, "{text:?}");
        }
    }
}
