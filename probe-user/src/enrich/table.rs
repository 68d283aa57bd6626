//! The table of living processes, bounded by the processes there are.

use std::collections::HashMap;

use crate::fact::{Process, ProcessKey};

/// The fewest entries that make a sweep worth its while. Processes that end well are not reported, so their
/// entries stay until a sweep; the table never holds more than this and twice the living processes.
const SWEEP_ABOVE: usize = 8192;

/// Processes by pid.
#[derive(Debug, Default)]
pub struct Table {
    processes: HashMap<u32, Process>,
    swept: usize,
}

impl Table {
    /// Adds or replaces a process.
    pub fn insert(&mut self, process: Process) {
        self.processes.insert(process.key.pid, process);
    }

    /// The process, if this very one is known.
    pub fn get(&self, key: ProcessKey) -> Option<&Process> {
        self.processes.get(&key.pid).filter(|known| known.key == key)
    }

    /// The latest process known to have had this pid.
    pub fn newest(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// Forgets a process.
    pub fn remove(&mut self, key: ProcessKey) {
        if self.get(key).is_some() {
            self.processes.remove(&key.pid);
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// With more entries than this the dead are thrown out.
    pub fn limit(&self) -> usize {
        SWEEP_ABOVE.max(self.swept * 2)
    }

    /// Whether it has grown so much that the dead should be thrown out.
    pub fn is_due_for_a_sweep(&self) -> bool {
        self.len() > self.limit()
    }

    /// Keeps only what `lives`.
    pub fn retain(&mut self, mut lives: impl FnMut(&Process) -> bool) {
        self.processes.retain(|_, process| lives(process));
        self.swept = self.processes.len();
    }
}
