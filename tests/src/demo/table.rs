//! The table of the faults, drawn as they happen.

use std::io::{self, IsTerminal, Write};

use hostprobe::escape::escaped;

use super::{
    faults::Step,
    outcome::{Outcome, verdicts},
};

/// The table on standard output. A terminal is shown the present fault as it goes, everything else the faults that
/// are over.
pub(super) struct Table {
    live: bool,
}

impl Table {
    pub fn new() -> Self {
        Self { live: io::stdout().is_terminal() }
    }

    pub fn heading(&mut self) {
        self.print(&format!(
            "{:<40} {:<28} {:<30} {:>11} {:>10}",
            "fault", "verdict", "action", "detected ms", "healthy ms"
        ));
    }

    /// A fault that is over.
    pub fn line(&mut self, step: &Step, outcome: &Outcome) {
        let millis = |time: Option<f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time:.1}"));
        self.print(&format!(
            "{:<40} {:<28} {:<30} {:>11} {:>10}{}",
            step.fault,
            verdicts(&outcome.reached),
            outcome.done.join(", "),
            millis(outcome.detected_ms),
            millis(outcome.healthy_ms),
            if outcome.wrong.is_empty() { "" } else { "  WRONG" },
        ));
    }

    /// The line of a fault that is not over. It is short, because one that is wrapped cannot be drawn over.
    pub fn running(step: &Step, state: &str) -> String {
        format!("{:<40} {state}", step.fault)
    }

    /// Shows how it stands, in place of what was shown before.
    pub fn progress(&mut self, text: &str) {
        if self.live {
            say(&format!("\r\x1b[K{text}"));
        }
    }

    /// Shows a line that stays.
    fn print(&mut self, line: &str) {
        self.progress("");
        say(&format!("{}\n", escaped(line.trim_end())));
    }
}

/// Writes at once; an output that is closed is no reason to leave a fault half done.
fn say(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes());
    let _ = output.flush();
}
