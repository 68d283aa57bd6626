//! The output of several commands: text, JSON, exit status.

use std::{io::Write as _, process::ExitCode};

/// Exit status: bad usage or a bad configuration.
pub(super) const BAD_CONFIG: u8 = 2;
/// Exit status: rights or kernel features are missing.
pub(super) const NOT_POSSIBLE: u8 = 3;

/// Prints to standard output. A closed reader, such as `head`, is no error.
pub(super) fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("hostprobe: standard output: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

pub(super) fn print_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => {
            eprintln!("hostprobe: answer: cannot be written as JSON: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The time between two moments in one unit; None if one of them is missing.
pub(super) fn ago(since: &str, until: &str) -> Option<String> {
    let (since, until) = (since.parse::<jiff::Timestamp>().ok()?, until.parse::<jiff::Timestamp>().ok()?);
    let ms = until.duration_since(since).as_millis().max(0);
    Some(match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    })
}
