//! Runs a daemon with all its features under processes that come and go, and says whether its memory stays what it was.
//!
//! `soak [--minutes N] [--write]`, 15 minutes unless said otherwise. With `--write` the tables go into `docs/soak.md`. Exit
//! status: 0 if memory, descriptors and threads stayed flat and no table outgrew its bound, 1 if not, 3 if a part is missing.

use std::{process::ExitCode, time::Duration};

use hostprobe_tests::{
    parts::require_root,
    soak::{judge, page, run},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (words, writes) = match words.split_last() {
        Some((&"--write", rest)) => (rest, true),
        _ => (&words[..], false),
    };
    let minutes = match *words {
        [] => Some(15),
        ["--minutes", minutes] => minutes.parse::<u64>().ok().filter(|minutes| *minutes > 0),
        _ => None,
    };
    let Some(minutes) = minutes else {
        eprintln!("usage: soak [--minutes N] [--write]");
        return ExitCode::from(2);
    };
    if !require_root() {
        return ExitCode::from(3);
    }
    let run = match run::run(Duration::from_secs(minutes * 60)) {
        Ok(Some(run)) => run,
        Ok(None) => return ExitCode::from(3),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("\n{}", run.tables());
    if writes && let Err(error) = page::write(&run) {
        eprintln!("the page cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    let wrong = judge(&run.samples).wrong;
    for wrong in &wrong {
        println!("NOT FLAT: {wrong}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
