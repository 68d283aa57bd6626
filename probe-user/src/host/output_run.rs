//! Where in its output file each run of a command began, so that the last lines of one are not taken from the next.

use std::{
    collections::VecDeque,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::fs::fstat;

use super::FileId;

/// The most runs whose beginnings are known, the latest. A context is read a moment after its fault, and few runs begin until
/// then.
const MOST: usize = 16;

/// The runs of one command. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OutputRuns(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// How many runs were started.
    started: u64,
    begins: VecDeque<Begin>,
}

#[derive(Debug)]
struct Begin {
    /// Counted from 1.
    number: u64,
    /// None while the run has written nothing.
    place: Option<OutputPlace>,
}

/// A place in a file, which a rotation renames.
#[derive(Clone, Copy, Debug)]
pub struct OutputPlace {
    pub file: FileId,
    /// In bytes.
    pub at: u64,
}

impl OutputPlace {
    /// The present end of a file.
    pub fn end_of(file: impl AsFd) -> Option<Self> {
        let found = fstat(file).ok()?;
        Some(Self { file: FileId::from(&found), at: u64::try_from(found.st_size).ok()? })
    }
}

/// One run of a command.
#[derive(Clone, Debug)]
pub struct OutputRun {
    runs: OutputRuns,
    /// 0 before the first.
    number: u64,
}

impl OutputRuns {
    /// The output of the next run is open. `place` is where it will begin, if that is known yet. It takes the place of one
    /// whose start failed.
    pub fn open(&self, place: Option<OutputPlace>) -> OutputRun {
        let mut known = self.lock();
        let number = known.started + 1;
        known.begins.retain(|begin| begin.number != number);
        if known.begins.len() == MOST {
            known.begins.pop_front();
        }
        known.begins.push_back(Begin { number, place });
        OutputRun { runs: self.clone(), number }
    }

    /// The run whose output was opened last was started.
    pub fn started(&self) {
        self.lock().started += 1;
    }

    /// The run that was started last.
    pub fn latest(&self) -> OutputRun {
        OutputRun { number: self.lock().started, runs: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputRun {
    /// Its first output comes here.
    pub fn begins_at(&self, place: Option<OutputPlace>) {
        let mut known = self.runs.lock();
        if let Some(begin) = known.begins.iter_mut().find(|begin| begin.number == self.number) {
            begin.place = place;
        }
    }

    /// The part of a file with its output, from and to, in bytes; None if it has written nothing. What is not known is not
    /// bounded: 0 and [`u64::MAX`].
    pub fn part_of(&self, file: FileId) -> Option<(u64, u64)> {
        let known = self.runs.lock();
        let from = match known.begins.iter().find(|begin| begin.number == self.number) {
            Some(begin) => begin.place?.of(file).unwrap_or(0),
            None => 0,
        };
        let next =
            known.begins.iter().filter(|begin| begin.number > self.number).find_map(|begin| begin.place);
        // The file of which the next run has the beginning is another now: all of this one is later.
        let to = next.map_or(u64::MAX, |next| next.of(file).unwrap_or(0));
        Some((from, to))
    }
}

impl OutputPlace {
    fn of(self, file: FileId) -> Option<u64> {
        (self.file == file).then_some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId { device: 1, inode: 1 };
    const ROTATED: FileId = FileId { device: 1, inode: 2 };

    fn at(file: FileId, at: u64) -> Option<OutputPlace> {
        Some(OutputPlace { file, at })
    }

    #[test]
    fn a_run_ends_where_the_next_one_begins() {
        let runs = OutputRuns::default();
        let adopted = runs.latest();
        assert_eq!(adopted.part_of(FILE), Some((0, u64::MAX)));
        let first = runs.open(at(FILE, 10));
        assert_eq!(adopted.part_of(FILE), Some((0, 10)));
        runs.started();
        assert_eq!(runs.latest().part_of(FILE), Some((10, u64::MAX)));
        let silent = runs.open(None);
        runs.started();
        assert_eq!((silent.part_of(FILE), first.part_of(FILE)), (None, Some((10, u64::MAX))));
        let third = runs.open(None);
        runs.started();
        third.begins_at(at(FILE, 30));
        assert_eq!((silent.part_of(FILE), first.part_of(FILE)), (None, Some((10, 30))));
    }

    #[test]
    fn a_start_that_failed_is_no_run_and_a_rotation_leaves_nothing_of_an_earlier_one() {
        let runs = OutputRuns::default();
        runs.open(at(FILE, 10));
        runs.started();
        runs.open(at(FILE, 20));
        assert_eq!(runs.latest().part_of(FILE), Some((10, 20)), "it may still start");
        let second = runs.open(at(FILE, 25));
        let first = runs.latest();
        assert_eq!(first.part_of(FILE), Some((10, 25)));
        assert_eq!((first.part_of(ROTATED), second.part_of(ROTATED)), (Some((0, 0)), Some((0, u64::MAX))));
    }

    #[test]
    fn the_latest_runs_are_known() {
        let runs = OutputRuns::default();
        for number in 0..3 * MOST as u64 {
            runs.open(at(FILE, number));
            runs.started();
        }
        assert_eq!(runs.lock().begins.len(), MOST);
        assert_eq!(runs.latest().part_of(FILE), Some((3 * MOST as u64 - 1, u64::MAX)));
    }
}
