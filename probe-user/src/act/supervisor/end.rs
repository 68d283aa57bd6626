//! The end of a command and of everything that it left behind.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    SupervisorTask,
    ending::Ending,
    left::{Traces, kill_members, kill_without_cgroup, remove, signal_group, signal_process},
};
use crate::{
    fact::ProcessKey,
    host::{LeftProcesses, OwnCgroup, Survey},
};

/// Between two checks whether a core dump is complete.
const DUMP_INTERVAL: Duration = Duration::from_millis(100);

/// Between two checks whether a program that the main process left behind has ended.
const LEFT_INTERVAL: Duration = Duration::from_millis(10);

impl SupervisorTask {
    /// The descendants of a command without a cgroup, before its end takes their parents away.
    fn living(&self, descendants: Vec<u32>) -> Vec<ProcessKey> {
        if self.cgroup.is_some() {
            return Vec::new();
        }
        let main = self.running.as_ref().map(|(_, key)| key.pid);
        let below = main.map(|pid| self.processes.descendants(pid, |_| false)).unwrap_or_default();
        descendants.into_iter().filter_map(|pid| self.processes.key_of(pid)).chain(below).collect()
    }

    /// Waits until no process of the command writes a core dump. SIGKILL would cut the dump off.
    async fn await_core_dumps(&self, limit: Duration) {
        let dumps = || {
            let members = self.cgroup.as_ref().and_then(|cgroup| cgroup.members().ok()).unwrap_or_default();
            self.processes.standstill(&members).dumping_core.is_some()
        };
        let complete = async {
            while dumps() {
                tokio::time::sleep(DUMP_INTERVAL).await;
            }
        };
        let _ = timeout(limit, complete).await;
    }

    /// Ends in order what a main process left behind: a wrapper may end before its server does. Workers that only forked
    /// have nothing of their own to save. The group `asked` has got its signal.
    async fn end_left_programs(
        &self,
        main: u32,
        descendants: &[ProcessKey],
        asked: Option<u32>,
        deadline: Instant,
    ) {
        let left = match &self.cgroup {
            Some(cgroup) => LeftProcesses::InCgroup(cgroup.clone()),
            None => {
                let living = descendants.iter().filter(|key| self.processes.runs(**key));
                LeftProcesses::OfGroup(main, living.map(|key| key.pid).collect())
            }
        };
        let survey = Survey::new(self.processes.clone());
        let mut programs = survey.programs_left(&left);
        for program in programs.iter().filter(|program| Some(program.group) != asked) {
            signal_process(program.pid, self.exec.stop_signal);
            signal_process(program.pid, Signal::CONT);
        }
        while Instant::now() < deadline && !programs.is_empty() {
            tokio::time::sleep(LEFT_INTERVAL).await;
            programs = survey.programs_left(&left);
        }
    }

    /// Whether a process of the command may run.
    pub(super) fn may_have_left(&self) -> bool {
        self.cgroup.as_ref().is_none_or(|cgroup| cgroup.is_populated().unwrap_or(true))
    }

    /// The end of a command that has ended or is about to, if it may leave nothing that has to be ended before the next start.
    /// Only a cgroup shows that.
    pub(super) fn ending(&self) -> Option<Ending> {
        let cgroup = self.cgroup.clone().filter(|_| self.left_behind.is_empty())?;
        let process = match &self.running {
            Some((child, key)) if child.has_ended() || !self.processes.lives(*key) => {
                Some(child.as_fd().try_clone_to_owned().ok()?)
            }
            Some(_) => return None,
            None => None,
        };
        Some(Ending::new(process, cgroup))
    }

    /// Forgets a command of which nothing is left. It is reaped beside the start of the next one: the kernel takes a
    /// tenth of a millisecond or two for that. The note in its cgroup stays until that of the next one replaces it.
    pub(super) fn forget_ended(&mut self) {
        if !self.running.as_ref().is_none_or(|(child, _)| child.has_ended()) {
            return;
        }
        self.left_group = None;
        if let Some((mut child, _)) = self.running.take() {
            // A member of its process group may have left the cgroup. Until the child is reaped, the group is its own.
            child.signal(Signal::KILL);
            tokio::spawn(async move {
                // An error leaves nothing to wait for.
                let _ = child.wait().await;
            });
        }
    }

    /// How a command is stopped does not depend on how it was started: what a reload changed holds at once.
    fn configure_stop(&mut self) {
        let next = self.next_exec.borrow();
        self.exec.stop_signal = next.stop_signal;
        self.exec.stop_timeout = next.stop_timeout;
    }

    /// Ends the command and everything it left behind, also under an earlier run of the daemon. A core dump has this
    /// time to be written.
    pub(super) async fn terminate(&mut self, descendants: Vec<u32>, dump: Duration) {
        self.configure_stop();
        let descendants = self.living(descendants);
        let mut group = self.left_group;
        let deadline = Instant::now() + self.exec.stop_timeout;
        if let Some((mut child, key)) = self.running.take() {
            child.signal(self.exec.stop_signal);
            // A stopped process takes the signal only after SIGCONT.
            child.signal(Signal::CONT);
            if timeout_at(deadline, child.wait()).await.is_err() {
                let is_dumping = || self.processes.dumps_core(key.pid);
                if !is_dumping() || timeout(dump, child.wait()).await.is_err() {
                    child.signal(Signal::KILL);
                    let _ = child.wait().await;
                }
            }
            if self.may_have_left() {
                self.end_left_programs(key.pid, &descendants, child.group(), deadline).await;
                self.await_core_dumps(dump).await;
            }
            child.signal(Signal::KILL);
            group = Some(key.pid);
            self.forget_note();
        }
        if let Some(group) = self.left_group.take() {
            self.end_left_programs(group, &descendants, None, deadline).await;
            // A cgroup has all that is left. Without a member, the number of a group may be another one's by now.
            if self.cgroup.is_none() {
                signal_group(group, Signal::KILL);
            }
        }
        match &self.cgroup {
            Some(cgroup) if self.may_have_left() => kill_members(cgroup, OwnCgroup::kill_members).await,
            Some(_) => {}
            None => {
                let earlier = std::mem::take(&mut self.is_first);
                let traces = Traces {
                    service: self.name.clone(),
                    state: self.state_directory,
                    group,
                    descendants,
                    earlier,
                };
                kill_without_cgroup(&self.processes, traces).await;
            }
        }
        for cgroup in std::mem::take(&mut self.left_behind) {
            // Another daemon may have taken it over meanwhile.
            let abandoned = self.processes.abandoned_cgroups(&self.name, self.state_directory);
            if !abandoned.iter().any(|other| other.path == cgroup.path) {
                continue;
            }
            kill_members(&cgroup, OwnCgroup::kill_for_good).await;
            remove(&cgroup).await;
        }
    }
}
