//! The cgroup of a program that runs to its end.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::host::OwnCgroup;

/// The kernel needs a moment to end processes. One that hangs in the kernel keeps the cgroup.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

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
            end(cgroup).await;
        }
    }
}

async fn end(cgroup: OwnCgroup) {
    for _ in 0..TRIES {
        let _ = cgroup.kill_for_good();
        if cgroup.remove().is_ok() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::warn!("{}: what a program left in it does not end", cgroup.path.display());
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        let Some(cgroup) = self.0.take() else { return };
        let _ = cgroup.kill_for_good();
        if cgroup.remove().is_ok() {
            return;
        }
        // Without a runtime the daemon ends, and the next one removes the empty cgroup.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(end(cgroup));
        }
    }
}
