//! The end of what a command leaves behind.

use std::{
    collections::BTreeSet,
    io, process, thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::timeout;

use super::orphans::is_marked;
use crate::{
    bounded_thread,
    fact::ProcessKey,
    host::{FileId, LeftProcesses, OwnCgroup, ProcReader, Survey},
};

/// The wait until killed processes have left their cgroup, or have ended.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks for processes of a command without a cgroup: each reads all processes of the host.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Kills until the cgroup is empty.
pub(super) async fn kill_members(cgroup: &OwnCgroup, kill: fn(&OwnCgroup) -> io::Result<()>) {
    let emptied = async {
        while !cgroup.members()?.is_empty() {
            kill(cgroup)?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<(), io::Error>(())
    };
    match timeout(REST_TIMEOUT, emptied).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!("{}: cannot kill the processes left in the cgroup: {error}", cgroup.path.display())
        }
        Err(_) => {
            tracing::warn!("{}: killed processes do not end: {:?}", cgroup.path.display(), cgroup.members())
        }
    }
}

/// Removes a cgroup. A killed process disappears from the list of members before it has left the cgroup, so the
/// removal can fail for a while.
pub(super) async fn remove(cgroup: &OwnCgroup) {
    let removed = async {
        while let Err(error) = cgroup.remove() {
            if error.kind() != io::ErrorKind::ResourceBusy {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    match timeout(REST_TIMEOUT, removed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("{}: cannot remove the cgroup: {error}", cgroup.path.display()),
        Err(_) => tracing::debug!("{}: cannot remove the cgroup: it is in use", cgroup.path.display()),
    }
}

/// Signals a process, which may be gone already.
pub(super) fn signal_process(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Signals a process group, which may be gone already.
pub(super) fn signal_group(pid: u32, signal: Signal) {
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

/// Processes of a command without a cgroup.
#[derive(Clone, Debug)]
pub(super) struct Traces {
    pub(super) service: String,
    /// The state directory of the daemon.
    pub(super) state: Option<FileId>,
    /// The process group and the session that it led.
    pub(super) group: Option<u32>,
    pub(super) descendants: Vec<ProcessKey>,
    /// Also what an earlier daemon may have left behind. The search reads the environments of all processes.
    pub(super) earlier: bool,
}

/// Kills what a command without a cgroup left behind: what its traces show, the orphans of its service, and the
/// descendants of all these.
pub(super) async fn kill_without_cgroup(processes: &ProcReader, traces: Traces) {
    let (reader, service) = (processes.clone(), traces.service.clone());
    let kill = move || {
        let until = Instant::now() + REST_TIMEOUT;
        loop {
            let left = left_without_cgroup(&reader, &traces);
            if left.is_empty() || Instant::now() >= until {
                return left;
            }
            left.iter().for_each(|pid| signal_process(*pid, Signal::KILL));
            thread::sleep(LOOK_INTERVAL);
        }
    };
    match bounded_thread::answer("left", 2 * REST_TIMEOUT, kill).await {
        Ok(left) if left.is_empty() => {}
        Ok(left) => tracing::warn!("{service}: killed processes do not end: {left:?}"),
        Err(error) => tracing::warn!("{service}: cannot kill the processes that it left: {error}"),
    }
}

fn left_without_cgroup(reader: &ProcReader, traces: &Traces) -> BTreeSet<u32> {
    let own = process::id();
    let known = traces.descendants.iter().filter(|key| reader.runs(**key)).map(|key| key.pid);
    let suspects =
        if traces.earlier { reader.pids().unwrap_or_default() } else { reader.direct_children(own) };
    let marked = suspects.into_iter().filter(|pid| is_marked(reader, *pid, &traces.service, traces.state));
    let mut roots: Vec<u32> = known.chain(marked).collect();
    if let Some(group) = traces.group {
        roots = Survey::new(reader.clone()).left(&LeftProcesses::OfGroup(group, roots));
    }
    let below = |root: &u32| reader.descendants(*root, |_| false).into_iter().chain(reader.key_of(*root));
    let all = roots.iter().flat_map(below).filter(|key| reader.runs(*key) && key.pid != own);
    all.map(|key| key.pid).collect()
}
