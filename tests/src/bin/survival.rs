//! Kills a daemon again and again at random moments: under random faults, and says whether an alert was lost; and with
//! services that are well, and says whether one was restarted or missed a request.
//!
//! `survival [--kills N] [--seed N]`, 200 kills each unless said otherwise. Writes the tables in `docs/survival.md`. Exit
//! status: 0 if every incident was told and ended, no budget was exceeded, and no service suffered; 1 if not; 3 if a part is
//! missing.

use std::process::ExitCode;

use hostprobe_tests::{parts::require_root, survival};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((kills, seed)) = parsed(&arguments) else {
        eprintln!("usage: survival [--kills N] [--seed N]");
        return ExitCode::from(2);
    };
    if !require_root() {
        return ExitCode::from(3);
    }
    let Some(findings) = survival::run(kills, seed) else { return ExitCode::from(3) };
    print!("{}", findings.table());
    let services = survival::services::run(kills, seed);
    print!("{}", services.table());
    for wrong in findings.wrong.iter().chain(&services.wrong) {
        eprintln!("{wrong}");
    }
    if !(findings.wrong.is_empty() && services.wrong.is_empty()) {
        return ExitCode::FAILURE;
    }
    match survival::page::write(&findings, &services) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the page cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The number of kills and the seed.
fn parsed(arguments: &[String]) -> Option<(u32, u64)> {
    let (mut kills, mut seed) = (200, 1);
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--kills" => kills = value.parse().ok().filter(|kills| *kills > 0)?,
            [name, value] if name == "--seed" => seed = value.parse().ok().filter(|seed| *seed > 0)?,
            _ => return None,
        }
    }
    Some((kills, seed))
}
