//! The way back of tasks to the loop that spawned them.

use tokio::sync::mpsc;

use crate::bounded_thread::{self, NoAnswer};

/// Sends the outcomes of tasks to a loop. Once that loop has ended, outcomes are dropped: the daemon is stopping.
#[derive(Debug)]
pub struct Outcomes<T>(mpsc::Sender<T>);

impl<T> Clone for Outcomes<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + 'static> Outcomes<T> {
    /// A channel for this number of outcomes. A further sender waits.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self(sender), receiver)
    }

    /// Spawns a task and sends its outcome.
    pub fn spawn(&self, task: impl Future<Output = T> + Send + 'static) {
        let Self(sender) = self.clone();
        tokio::spawn(async move {
            let _ = sender.send(task.await).await;
        });
    }

    /// Runs on another thread what may block, and sends its outcome.
    pub fn spawn_thread(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(), NoAnswer> {
        let outcomes = self.clone();
        bounded_thread::start(name, move || outcomes.blocking_send(work()))
    }

    pub async fn send(&self, outcome: T) {
        let _ = self.0.send(outcome).await;
    }

    /// Sends one outcome from a thread that may block.
    pub fn blocking_send(&self, outcome: T) {
        let _ = self.0.blocking_send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_task_sends_its_outcome_and_none_fails_once_the_loop_has_ended() {
        let (outcomes, mut inbox) = Outcomes::channel(1);
        outcomes.spawn(async { 1 });
        assert_eq!(inbox.recv().await, Some(1));
        outcomes.spawn_thread("test", || 2).unwrap();
        assert_eq!(inbox.recv().await, Some(2));
        drop(inbox);
        outcomes.spawn(async { 3 });
    }
}
