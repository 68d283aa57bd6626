//! Counts how often hostprobe, Monit and rules like the kubelet's restart services that are well.
//!
//! `false_restarts [--minutes N] [--write]`, one pass of all troubles unless said otherwise. With `--write` the table goes into
//! `docs/false-restarts.md`. Exit status: 0 if hostprobe restarted none that was well, and each that was not; 1 if not; 3 if a
//! part is missing.

use std::{process::ExitCode, time::Duration};

use hostprobe_tests::false_restarts::{self, TROUBLES, Tool};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (words, writes) = match words.split_last() {
        Some((&"--write", rest)) => (rest, true),
        _ => (&words[..], false),
    };
    let minutes = match *words {
        [] => Some(0),
        ["--minutes", minutes] => minutes.parse::<u64>().ok(),
        _ => None,
    };
    let Some(minutes) = minutes else {
        eprintln!("usage: false_restarts [--minutes N] [--write]");
        return ExitCode::from(2);
    };
    let findings = match false_restarts::run(Duration::from_secs(60 * minutes)) {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(3);
        }
    };
    print!("{}", findings.table());
    if writes && let Err(error) = false_restarts::page::write(&findings) {
        eprintln!("the page cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    let ours = Tool::Hostprobe;
    let missed = TROUBLES.iter().filter(|it| it.is_fault && findings.of(it, ours) < findings.passes);
    let missed: Vec<&str> = missed.map(|trouble| trouble.name).collect();
    if findings.false_restarts(ours) == 0 && missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{} restarts of services that were well; missed: {missed:?}", findings.false_restarts(ours));
    ExitCode::FAILURE
}
