//! Names the local processes behind the sessions that a database reported, before the engine observes the report.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::{answer::Answer, blocking_reads::BlockingReads};
use crate::{
    fact::{Holder, ProbeReport, ServiceId},
    host::ProcReader,
    outcomes::Outcomes,
};

/// The longest search: the engine waits for the report.
const PATIENCE: Duration = Duration::from_millis(500);

/// The most reports of one service that wait for a search. A further report overtakes them.
const WAITING_MAX: usize = 256;

/// The most client ports of one holder that are searched for.
const PORTS_MAX: usize = 64;

pub struct HolderSearch {
    reader: ProcReader,
    blocking_reads: BlockingReads,
    outcomes: Outcomes<Answer>,
    /// The services with a search under way, each with the reports that came meanwhile. The engine observes a
    /// service's reports in their order.
    waiting: HashMap<ServiceId, VecDeque<ProbeReport>>,
}

impl HolderSearch {
    pub(crate) fn new(reader: ProcReader, blocking_reads: BlockingReads, outcomes: Outcomes<Answer>) -> Self {
        Self { reader, blocking_reads, outcomes, waiting: HashMap::new() }
    }

    /// Takes a report. Returns it at once if there is nothing to search for, else later as [`Answer::Probed`].
    pub(crate) fn take(&mut self, report: ProbeReport) -> Option<ProbeReport> {
        if let Some(waiting) = self.waiting.get_mut(&report.service)
            && waiting.len() < WAITING_MAX
        {
            waiting.push_back(report);
            return None;
        }
        if self.waiting.contains_key(&report.service) || !has_unnamed(&report) {
            return Some(report);
        }
        self.waiting.insert(report.service, VecDeque::new());
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        self.outcomes.spawn(async move {
            let mut named = report.clone();
            let search = blocking_reads.read(PATIENCE, move || {
                name(&reader, &mut named);
                named
            });
            let found = search.await.inspect_err(|why| {
                tracing::warn!(
                    "{}: cannot find the processes behind the sessions of the database: {why}",
                    report.target
                );
            });
            Answer::Probed(Box::new(found.unwrap_or(report)))
        });
        None
    }

    /// A search has ended. Returns its report and those that came meanwhile.
    pub(crate) fn ended(&mut self, report: ProbeReport) -> Vec<ProbeReport> {
        let after = self.waiting.remove(&report.service).unwrap_or_default();
        std::iter::once(report).chain(after).collect()
    }
}

fn unnamed(holder: &Holder) -> bool {
    holder.process.is_none() && holder.client.is_some() && !holder.ports.is_empty()
}

fn has_unnamed(report: &ProbeReport) -> bool {
    report.server.as_ref().is_some_and(|server| server.holders.iter().any(unnamed))
}

/// Fills in the local processes at the client's end of the sessions. A client on another host has none here.
fn name(reader: &ProcReader, report: &mut ProbeReport) {
    let Some(server) = &mut report.server else { return };
    let ends = |holder: &Holder| -> Vec<SocketAddr> {
        let Some(client) = holder.client.filter(|_| unnamed(holder)) else { return Vec::new() };
        holder.ports.iter().take(PORTS_MAX).map(|port| SocketAddr::new(client, *port)).collect()
    };
    let sets: Vec<Vec<SocketAddr>> = server.holders.iter().map(ends).collect();
    for (holder, found) in server.holders.iter_mut().zip(reader.owners_of(&sets)) {
        if let Some(found) = found {
            holder.process = Some((found.pid, found.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpListener, TcpStream};

    use super::*;
    use crate::{
        clock::Timestamp,
        fact::{ProbeKind, ProbeOutcome, ServerUsage},
    };

    fn report(service: u32, index: usize, holders: Option<Vec<Holder>>) -> ProbeReport {
        ProbeReport {
            service: ServiceId(service),
            index,
            at: Timestamp::default(),
            kind: ProbeKind::Tcp,
            target: String::new(),
            duration: Duration::ZERO,
            outcome: ProbeOutcome::Ok,
            hurried: None,
            remark: None,
            server: holders.map(|holders| ServerUsage { holders, ..ServerUsage::default() }),
        }
    }

    #[tokio::test]
    async fn the_process_behind_a_session_is_named_and_later_reports_wait_for_it() {
        let (outcomes, mut inbox) = Outcomes::channel(4);
        let reader = ProcReader::new("/").unwrap();
        let mut holders = HolderSearch::new(reader.clone(), BlockingReads::new(), outcomes);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let end = client.local_addr().unwrap();
        let session = |client: IpAddr, ports| Holder {
            client: Some(client),
            ports,
            connections: 1,
            ..Holder::default()
        };
        let elsewhere = session([192, 0, 2, 1].into(), vec![5]);
        let anonymous = Holder { user: Some("x".to_owned()), ..Holder::default() };

        let plain = report(1, 0, Some(vec![anonymous.clone()]));
        assert_eq!(holders.take(plain.clone()), Some(plain), "there is nothing to be searched for");
        let asked = vec![session(end.ip(), vec![end.port()]), elsewhere.clone(), anonymous.clone()];
        assert_eq!(holders.take(report(1, 1, Some(asked))), None);
        assert_eq!(holders.take(report(1, 2, None)), None, "it waits for the one before");
        assert!(holders.take(report(2, 3, None)).is_some(), "another service's does not");

        let Some(Answer::Probed(named)) = inbox.recv().await else { panic!("a report comes back") };
        let found = holders.ended(*named);
        assert_eq!(found.iter().map(|report| report.index).collect::<Vec<_>>(), [1, 2]);
        let named = &found[0].server.as_ref().unwrap().holders;
        assert_eq!(named[0].process.as_ref().unwrap().0, std::process::id());
        assert_eq!(named[1..], [elsewhere, anonymous]);
        assert!(holders.take(report(1, 4, None)).is_some(), "the search is over");
    }
}
