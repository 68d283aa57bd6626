//! The ends of commands under `exec`: those of removed services, and all of them with the daemon.

use std::time::Duration;

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task::JoinSet,
    time::timeout,
};

use super::{Executor, Outcome, Removal, STOP_SLACK, descendants};
use crate::{
    act::supervisor::{RunningCommand, SupervisedProcess},
    config::{Config, OnExit},
    enrich::Enricher,
    fact::ServiceId,
};

/// What is left of a command, once that is settled; None of a service that a reload removed.
type Settled = Option<(ServiceId, Option<Box<RunningCommand>>)>;

impl Executor {
    /// Ends the command of a service that the configuration does not have any more, with all its descendants.
    pub(in crate::daemon) fn end_command(
        &mut self,
        name: String,
        process: SupervisedProcess,
        descendants: Vec<u32>,
        stop_timeout: Duration,
    ) {
        let (done, ended) = oneshot::channel();
        self.removals.push(Removal { stop_timeout, ended });
        self.outcomes.spawn(async move {
            // A process that hangs in the kernel holds up no other.
            let _ = timeout(stop_timeout.saturating_add(STOP_SLACK), process.stop(descendants)).await;
            drop(done);
            Outcome::Removed(name)
        });
    }

    /// Keeps what runs of a service under `exec` for the next daemon; None if nothing runs.
    pub(in crate::daemon) fn keep_command(&self, name: &str, command: Option<Box<RunningCommand>>) {
        if let Some(store) = &self.store {
            store.keep_command(name, command);
        }
    }

    /// Whether a command of a removed service has not ended yet.
    pub(in crate::daemon) fn awaits_removals(&mut self) -> bool {
        self.removals.retain_mut(|removal| removal.ended.try_recv() == Err(TryRecvError::Empty));
        !self.removals.is_empty()
    }

    /// How long commands may take to end, those of removed services included.
    pub(in crate::daemon) fn longest_stop(&self, config: &Config) -> Duration {
        let removed = self.removals.iter().map(|removal| removal.stop_timeout).max().unwrap_or_default();
        config.longest_stop().max(removed)
    }

    /// Ends all commands, or leaves them to the next daemon.
    pub(in crate::daemon) async fn end_commands(&mut self, config: &Config, enricher: &Enricher) {
        let patience = self.longest_stop(config).saturating_add(STOP_SLACK);
        let mut settling: JoinSet<Settled> = JoinSet::new();
        let leaves = self.on_exit == OnExit::Leave;
        for (service, process) in self.supervised.drain() {
            let descendants = descendants(service, &process, enricher);
            settling.spawn(async move {
                if leaves {
                    return Some((service, process.leave().await));
                }
                process.stop(descendants).await;
                Some((service, None))
            });
        }
        for Removal { ended, .. } in self.removals.drain(..) {
            settling.spawn(async move {
                // Its end drops the sender.
                let _ = ended.await;
                None
            });
        }
        let mut left = 0;
        let settled = async {
            while let Some(settled) = settling.join_next().await {
                let Ok(Some((service, command))) = settled else { continue };
                left += usize::from(command.is_some());
                self.keep_command(self.names.service(service), command);
            }
        };
        if timeout(patience, settled).await.is_err() {
            tracing::error!(
                "commands under exec: some have not ended within {patience:?}; the daemon ends without them"
            );
        }
        if left > 0 {
            tracing::info!(
                "commands under exec: {left} run on, for the next hostprobe with this state directory"
            );
        }
    }
}
