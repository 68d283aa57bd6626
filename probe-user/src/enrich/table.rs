//! The table of living processes, bounded by the processes there are.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    clock::Timestamp,
    fact::{Process, ProcessKey},
};

/// The fewest entries that make a sweep worth its while. Processes that end well are not reported, so their
/// entries stay until a sweep; the table never holds more than this and twice the living processes.
const SWEEP_ABOVE: usize = 8192;

/// Programs that are kept after their processes have executed others: a shell sends a signal and executes its last command
/// before the signal's effect is known.
const REPLACED_MAX: usize = 64;

/// Processes by pid.
#[derive(Debug, Default)]
pub struct Table {
    /// A tree, as its memory follows its entries. A hash table from which entries are removed all the time doubles by
    /// itself if it is half full when no free place is left that was never used.
    processes: BTreeMap<u32, Process>,
    /// Processes as they were until they executed another program at this time, latest last.
    replaced: VecDeque<(Timestamp, Process)>,
    swept: usize,
}

impl Table {
    /// The table of these processes, which live.
    pub fn of(processes: Vec<Process>) -> Self {
        let swept = processes.len();
        let processes = processes.into_iter().map(|process| (process.key.pid, process)).collect();
        Self { processes, replaced: VecDeque::new(), swept }
    }

    /// Adds or replaces a process.
    pub fn insert(&mut self, process: Process) {
        self.processes.insert(process.key.pid, process);
    }

    /// Adds a process that executes a program at this time.
    pub fn executes(&mut self, process: Process, at: Timestamp) {
        if let Some(before) = self.get(process.key).cloned() {
            if self.replaced.len() == REPLACED_MAX {
                self.replaced.pop_front();
            }
            self.replaced.push_back((at, before));
        }
        self.insert(process);
    }

    /// The process as it was at this time, if that is known.
    pub fn get_at(&self, key: ProcessKey, at: Timestamp) -> Option<&Process> {
        let replaced = self.replaced.iter().find(|(until, known)| known.key == key && at < *until);
        replaced.map(|(_, known)| known).or_else(|| self.get(key))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(command_line: &str) -> Process {
        let mut process = Process::unknown(ProcessKey::new(42, Timestamp::from_nanos(1)), 1);
        process.command_line = Some(command_line.to_owned());
        process
    }

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn a_process_is_what_it_executed_last_before_the_time_asked_for() {
        let mut table = Table::default();
        table.executes(shell("sh -c kill"), at(5));
        table.executes(shell("sleep 2"), at(10));
        let key = shell("").key;
        let line = |nanos| table.get_at(key, at(nanos)).and_then(|it| it.command_line.as_deref());
        assert_eq!((line(9), line(10), line(11)), (Some("sh -c kill"), Some("sleep 2"), Some("sleep 2")));
        let other = ProcessKey::new(42, at(20_000_000));
        assert_eq!(table.get_at(other, at(9)), None);
    }

    #[test]
    fn as_many_as_there_were_at_the_start_may_come() {
        let living = |pid| Process::unknown(ProcessKey::new(pid, at(1)), 1);
        let count = SWEEP_ABOVE as u32 + 1;
        let mut table = Table::of((0..count).map(living).collect());
        (count..2 * count).for_each(|pid| table.insert(living(pid)));
        assert!(!table.is_due_for_a_sweep());
        table.insert(living(2 * count));
        assert!(table.is_due_for_a_sweep());
    }

    #[test]
    fn what_was_replaced_long_ago_is_forgotten() {
        let mut table = Table::default();
        for nth in 0..1000 {
            table.executes(shell(&nth.to_string()), at(nth));
        }
        assert_eq!(table.replaced.len(), REPLACED_MAX);
        assert_eq!(table.len(), 1);
    }
}
