//! Names the local processes behind the sessions that a database told of, before the engine hears of them.

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

/// How long the search for them may take: the engine waits for the report.
const PATIENCE: Duration = Duration::from_millis(500);

/// So many reports of one service wait behind one that is searched for; what comes then overtakes them.
const WAITING_MAX: usize = 256;

/// No more client ports of one holder are looked up.
const PORTS_MAX: usize = 64;

/// The reports whose holders are searched for.
pub struct HolderSearch {
    reader: ProcReader,
    blocking_reads: BlockingReads,
    outcomes: Outcomes<Answer>,
    /// The services with a search under way, each with the reports that came meanwhile: a service's reports
    /// reach the engine in the order in which they came.
    waiting: HashMap<ServiceId, VecDeque<ProbeReport>>,
}

impl HolderSearch {
    pub(crate) fn new(reader: ProcReader, blocking_reads: BlockingReads, outcomes: Outcomes<Answer>) -> Self {
        Self { reader, blocking_reads, outcomes, waiting: HashMap::new() }
    }

    /// Takes a report; returns it if there is nothing to be searched for. Else it comes back as
    /// [`Answer::Probed`].
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

    /// A search has ended: the report, and those that came meanwhile.
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

/// Fills in the processes at this host's ends of the sessions; a client on another host has none here.
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
        let nobody = Holder { user: Some("x".to_owned()), ..Holder::default() };

        let plain = report(1, 0, Some(vec![nobody.clone()]));
        assert_eq!(holders.take(plain.clone()), Some(plain), "there is nothing to be searched for");
        let asked = vec![session(end.ip(), vec![end.port()]), elsewhere.clone(), nobody.clone()];
        assert_eq!(holders.take(report(1, 1, Some(asked))), None);
        assert_eq!(holders.take(report(1, 2, None)), None, "it waits for the one before");
        assert!(holders.take(report(2, 3, None)).is_some(), "another service's does not");

        let Some(Answer::Probed(named)) = inbox.recv().await else { panic!("a report comes back") };
        let found = holders.ended(*named);
        assert_eq!(found.iter().map(|report| report.index).collect::<Vec<_>>(), [1, 2]);
        let named = &found[0].server.as_ref().unwrap().holders;
        assert_eq!(named[0].process.as_ref().unwrap().0, std::process::id());
        assert_eq!(named[1..], [elsewhere, nobody]);
        assert!(holders.take(report(1, 4, None)).is_some(), "the search is over");
    }
}
