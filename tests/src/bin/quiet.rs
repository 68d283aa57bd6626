//! Counts the messages of hostprobe, Monit and Alertmanager about the same faults, and writes the tables in `docs/quiet.md`.
//!
//! `quiet`. Exit status: 0 if all was counted; 3 if a part is missing; 1 if the page cannot be written.

use std::process::ExitCode;

use hostprobe_tests::quiet;

fn main() -> ExitCode {
    let counts = match quiet::run() {
        Ok(counts) => counts,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(3);
        }
    };
    print!("{}", counts.table());
    match quiet::page::write(&counts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the page cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}
