//! The cgroup of a program that runs to its end.

use std::{thread, time::Duration};

use tokio::runtime::Handle;

use crate::host::OwnCgroup;

/// The kernel needs a moment to end processes. One that hangs in the kernel keeps the cgroup.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// The same while the daemon ends, which waits for it.
const LAST_PAUSE: Duration = Duration::from_millis(2);

/// A cgroup for runs. Nothing in it outlives this value, also if the daemon ends first.
#[derive(Debug)]
pub struct RunCgroup(Option<OwnCgroup>);

impl RunCgroup {
    pub fn new(cgroup: OwnCgroup) -> Self {
        Self(Some(cgroup))
    }

    pub fn cgroup(&self) -> Option<&OwnCgroup> {
        self.0.as_ref()
    }

    /// Whether no process runs in it.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(|cgroup| cgroup.is_populated().is_ok_and(|populated| !populated))
    }

    /// Ends what the program left, and removes the cgroup.
    pub async fn end(mut self) {
        if let Some(cgroup) = self.0.take() {
            end(Ending(Some(cgroup))).await;
        }
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        let Some(cgroup) = self.0.take() else { return };
        if has_ended(&cgroup) {
            return;
        }
        let ending = Ending(Some(cgroup));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(end(ending));
        }
    }
}

/// Kills what runs in a cgroup, and removes it. False if it is not empty yet.
fn has_ended(cgroup: &OwnCgroup) -> bool {
    let _ = cgroup.kill_for_good();
    cgroup.remove().is_ok()
}

async fn end(mut ending: Ending) {
    for _ in 0..TRIES {
        if ending.0.as_ref().is_none_or(has_ended) {
            ending.0 = None;
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if let Some(cgroup) = ending.0.take() {
        tracing::warn!("{}: what a program left in it does not end", cgroup.path.display());
    }
}

/// A cgroup that is being emptied. If the runtime ends first, it waits for that by itself.
struct Ending(Option<OwnCgroup>);

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(cgroup) = self.0.take() else { return };
        for _ in 0..TRIES {
            if has_ended(&cgroup) {
                return;
            }
            thread::sleep(LAST_PAUSE);
        }
    }
}
