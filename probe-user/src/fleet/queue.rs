//! The queue of events as the thread of the fleet reads it: never by itself. A disk that does not answer holds up one
//! thread that waits for it, and no message of the fleet.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::spool::{Lines, Position, Reader, Shared};
use crate::bounded_thread::OneAtATime;

/// How long a disk may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Queue {
    reader: Arc<Mutex<Reader>>,
    shared: Arc<Shared>,
    turn: OneAtATime,
}

impl Queue {
    pub(super) fn new(reader: Reader) -> Self {
        Self { shared: reader.shared(), reader: Arc::new(Mutex::new(reader)), turn: OneAtATime::default() }
    }

    /// The bytes that wait, and some that are acknowledged.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes()
    }

    /// So many lines are given up, and counted.
    pub(super) fn lose(&self, lines: u64) {
        self.shared.lose(lines);
    }

    /// The next lines that are not acknowledged. Waits until there are some.
    pub(super) async fn next(&self) -> Result<Lines, String> {
        loop {
            let lines = self.ask(Reader::read).await?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            self.shared.grown.notified().await;
        }
    }

    /// What is before this position is acknowledged.
    pub(super) async fn acknowledge(&self, end: Position) -> Result<(), String> {
        self.ask(move |reader| reader.acknowledge(end)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let reader = Arc::clone(&self.reader);
        let work = move || work(&mut reader.lock().unwrap_or_else(PoisonError::into_inner));
        let done = self.turn.answer("spool", PATIENCE, work).await;
        let done = done.map_err(|error| format!("the disk: {error}"))?;
        done.map_err(|error| format!("the disk: {error}"))
    }
}
