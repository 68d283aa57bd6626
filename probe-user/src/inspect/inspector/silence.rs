//! What is seen of a silent service only while probes of it still wait.

use tokio::sync::oneshot;

use super::{Inspector, PendingSample, SAMPLE_TIMEOUT, examine, first_sample, logged};
use crate::{
    clock::Timestamp,
    fact::{Examination, ProcessKey, ServiceId, Unanswered},
    host::Awaited,
    inspect::answer::Answer,
};

impl Inspector {
    /// Examines a service that two attempts of a probe wait for. The answer comes as [`Answer::Unanswered`].
    pub(crate) fn examine_unanswered(&self, unanswered: Box<Unanswered>, main: ProcessKey) {
        if self.blocking_reads.is_busy() {
            return;
        }
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        self.outcomes.spawn(async move {
            let seen = examine(&reader, &blocking_reads, main, Examination::OVER_BEFORE_TIMEOUT, None).await;
            Answer::Unanswered(unanswered, seen.map(Box::new))
        });
    }

    /// Looks at a service's processes, which may have to be examined in a moment; not at the cost of those that have to.
    pub(crate) fn sample_early(&mut self, service: ServiceId, main: ProcessKey) {
        if self.blocking_reads.is_busy() {
            return;
        }
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        let (done, sample) = oneshot::channel();
        self.early.insert(service, PendingSample { main, asked: Timestamp::now(), sample });
        tokio::spawn(async move {
            // The examination may not need it any more.
            let _ = done.send(first_sample(&reader, &blocking_reads, main).await);
        });
    }

    /// Looks whether a service waits for another server, while a probe still waits for the service. The answer comes as
    /// [`Answer::Awaited`].
    pub(crate) fn find_awaited(&self, service: ServiceId, main: ProcessKey) {
        if self.blocking_reads.is_busy() {
            return;
        }
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        self.outcomes.spawn(async move {
            let found = blocking_reads.read(SAMPLE_TIMEOUT, move || reader.awaited_by(main)).await;
            Answer::Awaited(service, logged(found).flatten())
        });
    }

    /// Keeps what a silent service waits for, for its next examination.
    pub(crate) fn awaits(&mut self, service: ServiceId, awaited: Option<Awaited>) {
        match awaited {
            Some(awaited) => self.awaited.insert(service, awaited),
            None => self.awaited.remove(&service),
        };
    }
}
