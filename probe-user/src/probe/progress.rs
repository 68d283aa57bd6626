//! What a run waits for, so that a timeout can name it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    bounded_thread::{NoAnswer, OneAtATime},
    fact::ProbeFailure,
};

/// The next address of a name is tried after this long (RFC 8305, "Connection Attempt Delay").
pub(super) const STAGGER: Duration = Duration::from_millis(250);

/// How long files may take: their file system may not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A run is late this long before its timeout, or a [`PART`] of its timeout if that is shorter.
const LATE: Duration = Duration::from_millis(250);
const PART: u32 = 4;

/// A run has time for this many addresses, the last of which has as long as each before it.
const ADDRESSES: u32 = 4;

#[derive(Debug)]
pub(crate) struct Waiting {
    now: Mutex<Now>,
    stagger: Duration,
    /// The threads of this probe that touch files.
    files: OneAtATime,
    /// None of what is no run of a probe.
    late_at: Option<Instant>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { now: Mutex::default(), stagger: STAGGER, files: OneAtATime::default(), late_at: None }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) what: &'static str,
    pub(super) connection: Connection,
    /// When the latest part of a body came, and how many bytes of it have come, where a text is sought in it.
    pub(super) body: Option<(Instant, usize)>,
    /// What is wrong with the answer as long as no more of it comes.
    pub(super) unexpected: Option<(ProbeFailure, String)>,
    /// What is wrong although the answer may be right.
    pub(super) remark: Option<String>,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            what: "the connection",
            connection: Connection::Missing,
            body: None,
            unexpected: None,
            remark: None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Connection {
    /// It waits for files of this host first.
    Files,
    Resolving,
    Missing,
    Made,
}

impl Waiting {
    /// What a run with this timeout waits for. `files` is the same for all runs of a probe.
    pub(super) fn of_run(timeout: Duration, files: OneAtATime) -> Self {
        let late_at = Some(Instant::now() + timeout - LATE.min(timeout / PART));
        Self { stagger: STAGGER.min(timeout / ADDRESSES), files, late_at, ..Self::default() }
    }

    /// What `work` finds in files, whose file system may not answer. That says nothing about the service.
    pub(super) async fn for_files<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let before = self.now().connection;
        self.set(what);
        self.connection(Connection::Files);
        let answer = self.files.answer("probe files", PATIENCE, work).await;
        self.connection(before);
        answer
    }

    /// Returns once the run is about to time out.
    pub(super) async fn until_late(&self) {
        match self.late_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// How long an address has for itself before the next one is tried beside it.
    pub(super) fn stagger(&self) -> Duration {
        self.stagger
    }

    pub(super) fn set(&self, what: &'static str) {
        self.change(|now| now.what = what);
    }

    pub(super) fn connection(&self, connection: Connection) {
        self.change(|now| now.connection = connection);
    }

    pub(super) fn body_goes_on(&self, bytes: usize) {
        self.change(|now| now.body = Some((Instant::now(), bytes)));
    }

    pub(super) fn unexpected(&self, failure: ProbeFailure, text: String) {
        self.change(|now| now.unexpected = Some((failure, text)));
    }

    pub(super) fn remark(&self, words: String) {
        self.change(|now| now.remark = Some(words));
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
