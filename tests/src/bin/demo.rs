//! Breaks a small real stack in turn and shows what hostprobe makes of it. `cargo xtask demo` builds and runs it.
//!
//! `demo [ROWS]`: numbers of the fault matrix such as `1,9a`; a choice of them if none are given. Exit status 0 if
//! every verdict and action came as expected, else 1.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use hostprobe_tests::matrix::{Outcome, Row, heading, keep_quiet_about_rows, line, rows};

/// A fault of each kind, on a web application, its Redis, and a PostgreSQL.
const CHOICE: &str = "1,2,4,6,7,9a,10,11,12,13,14,19";

fn main() -> ExitCode {
    let selected = std::env::args().nth(1).unwrap_or_else(|| CHOICE.to_owned());
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.is_in(&selected)).collect();
    if rows.is_empty() {
        eprintln!("no row of the fault matrix is selected by {selected:?}; an example is 1,9a,12");
        return ExitCode::from(2);
    }
    keep_quiet_about_rows();
    let live = io::stdout().is_terminal();
    say(&heading(), true);
    let (mut wrong, mut not_run) = (Vec::new(), 0);
    for row in rows {
        if live {
            say(&line(&row, None), false);
        }
        let outcome = row.outcome();
        if live {
            // Back to the beginning of the line, which is cleared.
            say("\r\x1b[K", false);
        }
        say(&line(&row, Some(&outcome)), true);
        wrong.extend(outcome.wrong().iter().map(|what| format!("{}: {what}", row.number)));
        not_run += u32::from(matches!(outcome, Outcome::NotRun));
    }
    if not_run > 0 {
        say(&format!("{not_run} faults were not done, because a part for them is missing"), true);
    }
    for what in &wrong {
        say(what, true);
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes at once; an output that is closed is no reason to leave the faults half done.
fn say(text: &str, whole: bool) {
    let mut output = io::stdout().lock();
    let _ = write!(output, "{text}{}", if whole { "\n" } else { "" });
    let _ = output.flush();
}
