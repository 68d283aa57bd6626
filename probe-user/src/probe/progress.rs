//! What a run waits for, so that a timeout can name it.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Now>);

#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) what: &'static str,
    pub(super) connection: Connection,
    /// When the latest part of a body came, and how many bytes of it have come, where a text is sought in it.
    pub(super) body: Option<(Instant, usize)>,
    /// What is wrong with an answer in bytes as long as no more of it comes.
    pub(super) unexpected: Option<String>,
}

impl Default for Now {
    fn default() -> Self {
        Self { what: "the connection", connection: Connection::Missing, body: None, unexpected: None }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Connection {
    Resolving,
    Missing,
    Made,
}

impl Waiting {
    pub(super) fn set(&self, what: &'static str) {
        self.change(|now| now.what = what);
    }

    pub(super) fn connection(&self, connection: Connection) {
        self.change(|now| now.connection = connection);
    }

    pub(super) fn body_goes_on(&self, bytes: usize) {
        self.change(|now| now.body = Some((Instant::now(), bytes)));
    }

    pub(super) fn unexpected(&self, text: String) {
        self.change(|now| now.unexpected = Some(text));
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn now(&self) -> Now {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
