//! A snapshot for people: the state of a service's processes before a restart.
//!
//! It judges nothing. The sections are written one by one, and the caller may take an unfinished snapshot at any
//! time: a read in `/proc` can block for as long as the process hangs in the kernel. A snapshot holds no
//! environment variables, and no secrets of command lines.

mod draft;
mod folder;
mod section;

pub use self::{
    draft::{Draft, Subject},
    folder::{Folder, FolderError},
};
use crate::{clock::Timestamp, host::ProcReader};

/// The heading of a section and the function that writes it. The numbers are the pids of all processes.
type Section = (&'static str, fn(&ProcReader, &Subject, &[u32], &Draft));

/// The most useful sections come first, and those that block least. Command lines come last: they are read from the
/// process's memory, which a process that hangs may have locked.
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
        draft.begin(SECTIONS.iter().map(|(heading, _)| *heading).collect());
        let at = Timestamp::now().to_wall();
        let pids = self.process_tree().of(subject.main.pid);
        draft.line(&format!("Snapshot of {} at {at:.3}", subject.service));
        draft.line(&format!("main process {}, {} processes in all", subject.main.pid, pids.len()));
        for (heading, write) in SECTIONS {
            if !draft.begin_section(heading) {
                break;
            }
            write(self, subject, &pids, draft);
        }
        draft.end();
    }
}

#[cfg(test)]
mod tests;
