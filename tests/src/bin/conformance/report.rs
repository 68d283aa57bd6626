//! The lines that the checks print: `{"check": …, "outcome": …, "detail": …}`.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

/// What a check comes to, if nothing is wrong.
pub enum Outcome {
    /// As promised. The text says what was seen, in words and numbers that are the same on every kernel.
    Kept(String),
    /// This kernel has no such place to listen at, and hostprobe says so itself; why.
    Absent(String),
    /// Nothing was tried here; why.
    NotTried(String),
}

/// Prints the line of one check.
pub fn tell(check: &str, outcome: &Result<Outcome>) {
    let (word, detail) = match outcome {
        Ok(Outcome::Kept(seen)) => ("ok", seen.clone()),
        Ok(Outcome::Absent(why)) => ("absent", why.clone()),
        Ok(Outcome::NotTried(why)) => ("not tried", why.clone()),
        Err(error) => ("failed", format!("{error:#}")),
    };
    say(&json!({ "check": check, "outcome": word, "detail": detail }));
}

/// Prints a line of JSON at once.
pub fn say(line: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    // Whoever reads has gone; the exit status is all there is left to say.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
