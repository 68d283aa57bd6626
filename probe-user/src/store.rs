//! What the daemon keeps in its state directory.

pub mod directory;
pub mod history;
pub mod last_run;
pub mod recorded_pressure;
pub mod recording;
pub mod report;
pub mod rollup;
pub mod state;
