//! What is made from files, and made again once they have changed.
//!
//! Files that cannot be used while the daemon runs change nothing: the last that could be used stays. A renewal writes one file
//! after the other, so files that are not a pair are only warned about if they are not one at the next look either.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    bounded_thread::{self, OneAtATime},
    file_stamp::{Stamps, stamp},
};

/// How often to look whether the files have changed.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// How long the files may take: their file system may not answer.
const PATIENCE: Duration = Duration::from_secs(5);

type Make<T> = fn(&[PathBuf]) -> Result<T, String>;

pub(super) struct Renewed<T> {
    /// What the files are, for the log.
    name: &'static str,
    files: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<State<T>>,
    turn: OneAtATime,
}

struct State<T> {
    made: T,
    stamps: Stamps,
    /// The files that could not be used at the latest look, and whether a warning said so.
    unusable: Option<(Stamps, bool)>,
}

impl<T: Clone + Send + 'static> Renewed<T> {
    /// Reads the files for the first time. It may block for some seconds.
    pub fn read(name: &'static str, files: Vec<PathBuf>, make: Make<T>) -> Result<Self, String> {
        let read = files.clone();
        let made = bounded_thread::blocking_answer("http files", PATIENCE, move || {
            (read.iter().map(|file| stamp(file)).collect(), make(&read))
        });
        let (stamps, made) = made.map_err(|error| format!("{name}: {error}"))?;
        let state = State { made: made?, stamps, unusable: None };
        Ok(Self { name, files, make, state: Mutex::new(state), turn: OneAtATime::default() })
    }

    pub fn get(&self) -> T {
        self.state().made.clone()
    }

    /// Looks whether the files have changed, on a thread of its own.
    pub async fn look(&self) {
        let (files, make, known) = (self.files.clone(), self.make, self.state().stamps.clone());
        let looked = self.turn.answer("http files", PATIENCE, move || {
            let stamps: Stamps = files.iter().map(|file| stamp(file)).collect();
            if stamps == known { None } else { Some((stamps, make(&files))) }
        });
        match looked.await {
            Ok(None) => self.state().unusable = None,
            Ok(Some((stamps, Ok(made)))) => {
                *self.state() = State { made, stamps, unusable: None };
                tracing::info!("http: {} has changed and is in use", self.name);
            }
            Ok(Some((stamps, Err(why)))) => self.on_unusable(stamps, &why),
            Err(error) => tracing::debug!("http: {}: {error}; the earlier one stays in use", self.name),
        }
    }

    fn on_unusable(&self, stamps: Stamps, why: &str) {
        let mut state = self.state();
        match &mut state.unusable {
            Some((known, told)) if *known == stamps => {
                if !std::mem::replace(told, true) {
                    tracing::warn!("http: {why}; the earlier {} stays in use", self.name);
                }
            }
            Some(_) | None => state.unusable = Some((stamps, false)),
        }
    }

    /// It stays usable if a thread panicked: each change is made in whole.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn number(files: &[PathBuf]) -> Result<u32, String> {
        let text = fs::read_to_string(&files[0]).map_err(|error| error.to_string())?;
        text.parse().map_err(|_| format!("{text} is no number"))
    }

    #[tokio::test]
    async fn a_file_that_changed_is_read_again_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("n");
        assert!(Renewed::read("number", vec![file.clone()], number).is_err());
        fs::write(&file, "1").unwrap();
        let renewed = Renewed::read("number", vec![file.clone()], number).unwrap();
        renewed.look().await;
        assert_eq!(renewed.get(), 1);
        fs::write(&file, "22").unwrap();
        renewed.look().await;
        assert_eq!(renewed.get(), 22);
        fs::write(&file, "bad").unwrap();
        let told = |renewed: &Renewed<u32>| renewed.state().unusable.as_ref().map(|(_, told)| *told);
        for expected in [false, true, true] {
            renewed.look().await;
            assert_eq!((renewed.get(), told(&renewed)), (22, Some(expected)));
        }
        // Of another length: where the times of files go in steps, they are the same.
        fs::write(&file, "4444").unwrap();
        renewed.look().await;
        assert_eq!((renewed.get(), told(&renewed)), (4444, None));
        fs::remove_file(&file).unwrap();
        renewed.look().await;
        assert_eq!(renewed.get(), 4444);
    }
}
