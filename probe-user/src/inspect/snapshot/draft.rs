//! The text of a snapshot while it is written.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{escape::escaped, fact::ProcessKey, redact::redact};

/// The longest snapshot, in bytes. A longer one says that it is incomplete.
pub(super) const TEXT_MAX: usize = 4 << 20;

/// The processes that a snapshot shows.
#[derive(Clone, Debug)]
pub struct Subject {
    pub service: String,
    pub main: ProcessKey,
    /// The last exits of its processes, a sentence each, the latest last.
    pub last_exits: Vec<String>,
}

/// A snapshot in progress. The caller reads it while another thread writes it.
#[derive(Clone, Debug, Default)]
pub struct Draft(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    text: String,
    /// The section in progress.
    section: Option<&'static str>,
    /// The sections that follow.
    ahead: Vec<&'static str>,
    /// Later lines did not fit.
    full: bool,
    /// The snapshot was taken, so later lines are dropped.
    closed: bool,
}

impl Draft {
    pub(super) fn begin(&self, sections: Vec<&'static str>) {
        self.lock().ahead = sections;
    }

    /// False if the snapshot is full or was taken.
    pub(super) fn begin_section(&self, heading: &'static str) -> bool {
        {
            let mut content = self.lock();
            content.section = Some(heading);
            content.ahead.retain(|other| *other != heading);
        }
        self.line("");
        self.line(&format!("== {heading} =="))
    }

    pub(super) fn end(&self) {
        let mut content = self.lock();
        content.section = None;
        content.ahead.clear();
    }

    /// Takes the text so far, and says at its end what is missing.
    pub fn take(&self) -> String {
        let mut content = self.lock();
        content.closed = true;
        let mut text = std::mem::take(&mut content.text);
        let missing: Vec<&str> = content.section.into_iter().chain(content.ahead.iter().copied()).collect();
        // Writing to a String cannot fail.
        let _ = match (missing.first(), content.full) {
            (None, false) => writeln!(text, "\nEnd of the snapshot."),
            (None, true) => writeln!(text, "\nThe snapshot is full: some of it was left out."),
            (Some(first), _) => writeln!(
                text,
                "\nTime was up while \"{first}\" was read, which may be because a process holds a lock in the \
                 kernel. Missing or incomplete: {}.",
                missing.join(", ")
            ),
        };
        text
    }

    /// Adds a line. False if the snapshot is full or was taken.
    pub(super) fn line(&self, line: &str) -> bool {
        let mut content = self.lock();
        if content.closed {
            return false;
        }
        if content.text.len() + line.len() >= TEXT_MAX {
            content.full = true;
            return false;
        }
        // A process chooses its name. The name must not look like a line of the snapshot, nor move a terminal's cursor.
        content.text.push_str(&escaped(&redact(line)));
        content.text.push('\n');
        true
    }

    /// Adds the stacks of threads, which come from elsewhere.
    pub fn add_stacks(&self, lines: &[String]) {
        self.line("");
        self.line("== stacks ==");
        for line in lines {
            self.line(line);
        }
    }

    pub(super) fn indented(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("    {line}"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
