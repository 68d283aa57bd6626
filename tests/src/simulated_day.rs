//! A day of three services without waiting for it: its observations as a daemon records them, and the state file that the
//! daemon leaves. The engine decides, on a clock of its own.

mod archive;
mod clock;
mod recorder;
mod script;

use std::{fs, path::PathBuf};

use hostprobe::config::Config;
use jiff::SignedDuration;
use tempfile::TempDir;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The day that ends with the last full minute.
pub struct SimulatedDay {
    pub folder: TempDir,
    /// Its configuration file.
    pub config: PathBuf,
    /// What its daemons recorded.
    pub recording: PathBuf,
    start: jiff::Timestamp,
}

impl Default for SimulatedDay {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDay {
    /// Makes the recording, and from it the state file.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let config = folder.path().join("hostprobe.toml");
        fs::write(&config, script::config(folder.path())).expect("the configuration is written");
        fs::create_dir(folder.path().join("state")).expect("the state directory is made");
        let recording = folder.path().join("day.ndjson");
        let now = jiff::Timestamp::now().as_second();
        let end = jiff::Timestamp::from_second(now - now.rem_euclid(60)).expect("a time");
        let day = Self { folder, config, recording, start: end - DAY };
        let read = Config::load(&day.config).expect("the configuration is valid");
        fs::write(&day.recording, script::record(&read, clock::wall_ahead(day.start)))
            .expect("it is written");
        archive::keep(&read, &day.recording);
        day
    }

    /// A time of the day in the words of a report, such as `at(3, 12, 0)` for twelve minutes past its third hour.
    pub fn at(&self, hours: i64, minutes: i64, seconds: i64) -> String {
        let after = SignedDuration::from_secs(hours * 3600 + minutes * 60 + seconds);
        format!("{:.0}", self.start + after).replace('T', " ").replace('Z', "")
    }
}
