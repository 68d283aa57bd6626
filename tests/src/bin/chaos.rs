//! Random faults on some thirty services while the daemon is killed and upgraded and its surroundings fail.
//!
//! `chaos [--minutes N] [--seed N] [--first ROUND] [--rounds N]`: an hour and a seed of the clock unless said otherwise. Exit
//! status: 0 if hostprobe has made the right thing of everything, 1 if not, 3 if a part is missing. What was wrong is printed with the plan
//! of its round, and with the command that does it again.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hostprobe_tests::{
    chaos::{self, Settings},
    parts::require_root,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(settings) = parsed(&arguments) else {
        eprintln!("usage: chaos [--minutes N] [--seed N] [--first ROUND] [--rounds N]");
        return ExitCode::from(2);
    };
    if !require_root() {
        return ExitCode::from(3);
    }
    println!("chaos: seed {}, {} minutes", settings.seed, settings.length.as_secs() / 60);
    let findings = match chaos::run(&settings) {
        Ok(Some(findings)) => findings,
        Ok(None) => return ExitCode::from(3),
        Err(error) => {
            eprintln!("chaos: seed {}: {error:#}", settings.seed);
            return ExitCode::FAILURE;
        }
    };
    print!("{}\n{}", findings.table(), findings.counts());
    for wrong in &findings.wrong {
        eprintln!("WRONG, seed {}: {wrong}", settings.seed);
    }
    if findings.wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("again: cargo xtask chaos --seed {} [--first ROUND]", settings.seed);
    ExitCode::FAILURE
}

fn parsed(arguments: &[String]) -> Option<Settings> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
    let mut settings = Settings { seed: clock, length: Duration::from_secs(3600), first: 0, rounds: None };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--minutes" => {
                let minutes: u64 = value.parse().ok().filter(|minutes| *minutes > 0)?;
                settings.length = Duration::from_secs(minutes * 60);
            }
            "--seed" => settings.seed = value.parse().ok().filter(|seed| *seed > 0)?,
            "--first" => settings.first = value.parse().ok()?,
            "--rounds" => settings.rounds = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(settings)
}
