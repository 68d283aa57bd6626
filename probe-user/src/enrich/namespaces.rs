//! Pid namespaces that end: the kernel kills all processes of a namespace when its init ends.
//!
//! The exit of the init comes first (`exit_notify` in the kernel calls `zap_pid_ns_processes`), so its record says why the
//! others are killed.

use std::collections::VecDeque;

use crate::fact::{NamespaceEnd, ProcessExit};

/// The processes of a namespace are killed at once after its init. More namespaces do not end in between.
const REMEMBERED: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Namespaces(VecDeque<NamespaceEnd>);

impl Namespaces {
    /// The init of a namespace has ended.
    pub(super) fn ended(&mut self, exit: &ProcessExit) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(NamespaceEnd {
            init_pid: exit.process.key.pid,
            init_name: exit.process.name.clone(),
            status: exit.status,
            sender: exit.killer().cloned(),
        });
    }

    /// The latest end of a namespace with this init.
    pub(super) fn end_by(&self, init_pid: u32) -> Option<NamespaceEnd> {
        self.0.iter().rev().find(|end| end.init_pid == init_pid).cloned()
    }
}
