//! The lines that the checks print: `{"check": …, "outcome": …, "detail": …}`.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

/// The result of a check that did not fail.
pub enum Outcome {
    /// The text describes the observation in words and numbers that are the same on every kernel.
    Passed(String),
    /// This kernel lacks what it takes, such as the tracepoint, and hostprobe reports that; the reason.
    Absent(String),
    /// The check cannot run here; the reason.
    NotTried(String),
}

/// Prints the result of one check.
pub fn check(name: &str, outcome: &Result<Outcome>) {
    let (word, detail) = match outcome {
        Ok(Outcome::Passed(seen)) => ("ok", seen.clone()),
        Ok(Outcome::Absent(why)) => ("absent", why.clone()),
        Ok(Outcome::NotTried(why)) => ("not tried", why.clone()),
        Err(error) => ("failed", format!("{error:#}")),
    };
    line(&json!({ "check": name, "outcome": word, "detail": detail }));
}

/// Prints a line of JSON at once.
pub fn line(line: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    // If the reader is gone, only the exit status is left.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
