//! A snapshot for a person: everything that can be seen of a service's processes before they are restarted.
//!
//! It judges nothing. It is made section by section, and whoever asked for it may take what there is at any time:
//! a file in `/proc` can block for as long as the process it is of hangs in the kernel. It holds no environment,
//! and of the command lines no secrets.

mod folder;
mod section;

use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

pub use self::folder::{Folder, FolderError};
use crate::host::ProcReader;
use crate::{clock::Timestamp, fact::ProcessKey};

/// A snapshot is no longer than this, in bytes; what does not fit is left out and said to be.
const TEXT_MAX: usize = 4 << 20;

/// What a snapshot is taken of.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The service's name.
    pub service: String,
    /// Its main process.
    pub main: ProcessKey,
    /// How its processes ended before, a sentence each, the latest last.
    pub last_exits: Vec<String>,
}

/// A snapshot in the making, which can be read while it is made.
#[derive(Clone, Debug, Default)]
pub struct Draft(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    text: String,
    /// The section that is being made.
    section: Option<&'static str>,
    /// Those still to come.
    ahead: Vec<&'static str>,
    /// What came after it was full was left out.
    full: bool,
    /// It was taken: nothing is added any more.
    closed: bool,
}

impl Draft {
    /// Takes what there is, with a word on what is missing.
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

    /// Adds a line; false once nothing can be added any more.
    fn line(&self, line: &str) -> bool {
        let mut content = self.lock();
        if content.closed {
            return false;
        }
        if content.text.len() + line.len() >= TEXT_MAX {
            content.full = true;
            return false;
        }
        // What processes call themselves must not look like a line of ours, nor move a terminal's cursor.
        content.text.extend(line.chars().map(|char| if char.is_control() { '?' } else { char }));
        content.text.push('\n');
        true
    }

    /// Adds the lines of a text below the line before.
    fn indented(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("    {line}"));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part of a snapshot: its heading, and what makes it of these processes.
type Section = (&'static str, fn(&ProcReader, &Subject, &[u32], &Draft));

/// The parts, those first that a person needs most and that block least. Command lines come last: they are read
/// from the process's memory, which a process that hangs may have locked.
const SECTIONS: [Section; 8] = [
    ("last exits", section::last_exits),
    ("threads", section::threads),
    ("sockets", section::sockets),
    ("file descriptors", section::descriptors),
    ("cgroup", section::cgroup),
    ("limits", section::limits),
    ("pressure and listen queues of the host", section::host),
    ("command lines", section::command_lines),
];

impl ProcReader {
    /// Writes a snapshot into `draft`.
    pub fn snapshot(&self, subject: &Subject, draft: &Draft) {
        draft.lock().ahead = SECTIONS.iter().map(|(heading, _)| *heading).collect();
        let at = Timestamp::now().to_wall();
        let pids = self.families().of(subject.main.pid);
        draft.line(&format!("Snapshot of {} at {at:.3}", subject.service));
        draft.line(&format!("main process {}, {} processes in all", subject.main.pid, pids.len()));
        for (heading, make) in SECTIONS {
            {
                let mut content = draft.lock();
                content.section = Some(heading);
                content.ahead.retain(|other| *other != heading);
            }
            draft.line("");
            if !draft.line(&format!("== {heading} ==")) {
                break;
            }
            make(self, subject, &pids, draft);
        }
        let mut content = draft.lock();
        content.section = None;
        content.ahead.clear();
    }
}

#[cfg(test)]
mod tests;
