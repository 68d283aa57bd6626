//! OOM kills without their exits.

use std::collections::VecDeque;

use crate::fact::{EventId, OomKill, ProcessExit};

/// The kernel reports the exit soon after the kill. If a host has more kills than this, the oldest matter least.
const MAX: usize = 16;

#[derive(Debug, Default)]
pub struct OomKills(VecDeque<(OomKill, EventId)>);

impl OomKills {
    pub fn add(&mut self, kill: OomKill, event: EventId) {
        if self.0.len() == MAX {
            self.0.pop_front();
        }
        self.0.push_back((kill, event));
    }

    /// Takes the kill that explains an exit.
    pub fn take(&mut self, exit: &ProcessExit) -> Option<(OomKill, EventId)> {
        let pid = exit.process.key.pid;
        let at = self.0.iter().position(|(kill, _)| kill.victim.key.pid == pid)?;
        self.0.remove(at)
    }
}
