//! Signals to watched processes.

use super::Enricher;
use crate::{
    clock::Timestamp,
    fact::{CoreSignal, ProcessKey, Sender, ServiceId, Suspension},
    sensor::record,
};

/// It stops every process. Job control's signals do not.
const SIGSTOP: u8 = 19;

impl Enricher {
    /// The stop of a process, and the services whose main process it is; none if the kernel discards the signal.
    pub fn stop(&self, record: &record::ReceivedSignal) -> (Suspension, Vec<ServiceId>) {
        let process = ProcessKey::new(record.pid, Timestamp::from_nanos(record.start_ns));
        let mut sender = self.sender(&record.signal, record.pid);
        self.read_terminal(&mut sender, &record.signal);
        let stop = Suspension {
            at: Timestamp::from_nanos(record.at_ns),
            process,
            signal: number(&record.signal),
            sender: Some(sender),
        };
        let takes_effect = stop.signal == SIGSTOP || self.reader.has_job_control(record.pid);
        (stop, if takes_effect { self.members.services_of(process) } else { Vec::new() })
    }

    /// The signal of a core dump, and the services whose main process gets it; none if another process sent it: the exit says
    /// more about that.
    pub fn core_signal(&self, record: &record::ReceivedSignal) -> (CoreSignal, Vec<ServiceId>) {
        let process = ProcessKey::new(record.pid, Timestamp::from_nanos(record.start_ns));
        let at = Timestamp::from_nanos(record.at_ns);
        let signal = CoreSignal { at, process, signal: number(&record.signal) };
        let services = match self.sender(&record.signal, record.pid) {
            Sender::Kernel | Sender::Itself => self.members.services_of(process),
            Sender::Process { .. } => Vec::new(),
        };
        (signal, services)
    }
}

/// Signals have numbers up to 64.
fn number(signal: &record::Signal) -> u8 {
    u8::try_from(signal.number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{enrich::Members, host::ProcReader};

    const WEB: ServiceId = ServiceId(0);
    const CACHE: ServiceId = ServiceId(1);

    /// A pid that no process has: they end at 2²².
    const MAIN: u32 = 5_000_000;
    const START_NS: u64 = 7_000_000_000;

    /// Of one process, which is the main one of both services.
    fn enricher() -> Enricher {
        let mut members = Members::default();
        let main = ProcessKey::new(MAIN, Timestamp::from_nanos(START_NS));
        members.set_main(WEB, Some(main));
        members.set_main(CACHE, Some(main));
        Enricher::new(ProcReader::new("/").unwrap(), members).unwrap()
    }

    fn received(number: u32, sender: Option<u32>) -> record::ReceivedSignal {
        let sender = sender.map(|pid| record::Sender {
            pid,
            uid: 3,
            start_ns: 5,
            cgroup_v2: None,
            comm: "kill".to_owned(),
        });
        let at_ns = 9_000_000_000;
        let signal = record::Signal { at_ns, number, code: 0, context_pid: 9, sender };
        record::ReceivedSignal { at_ns, pid: MAIN, start_ns: START_NS, signal }
    }

    #[test]
    fn a_stop_is_published_for_every_service_of_the_process_with_its_sender() {
        let enricher = enricher();
        let record = received(19, Some(9));
        let (stop, services) = enricher.stop(&record);
        assert_eq!(services, [WEB, CACHE]);
        assert_eq!((stop.signal, stop.process.pid), (19, MAIN));
        let Some(Sender::Process { pid, name, user_id, .. }) = stop.sender else { panic!("{stop:?}") };
        assert_eq!((pid, name.as_str(), user_id), (9, "kill", 3));
        let other = record::ReceivedSignal { start_ns: 1, ..record };
        assert_eq!(enricher.stop(&other).1, [], "another process that has the pid now");
    }

    #[test]
    fn a_core_signal_is_of_its_services_unless_another_process_sent_it() {
        let enricher = enricher();
        for sender in [None, Some(MAIN)] {
            let (signal, services) = enricher.core_signal(&received(11, sender));
            assert_eq!((signal.signal, signal.process.pid, services), (11, MAIN, vec![WEB, CACHE]));
        }
        assert_eq!(enricher.core_signal(&received(6, Some(1))).1, []);
    }
}
