//! Full accept queues of services' listeners, sampled once a second.
//!
//! One dump of all listeners shows their queues. The few full ones are then matched with the services. The kernel's
//! own count of refused connections (`ListenOverflows`) names no listener, and grows only while clients still try. It
//! is in the snapshots, but no verdict uses it. Listeners in other network namespaces than the daemon's are asked for
//! one by one ([`super::queues_elsewhere`]).

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    answer::{Answer, Owners},
    blocking_reads::BlockingReads,
    queues_elsewhere::QueuesElsewhere,
};
use crate::{
    clock::Timestamp,
    fact::{AcceptQueue, ProcessKey, ServiceId},
    host::{ProcReader, queue, sockdiag},
    outcomes::Outcomes,
};

/// The longest search for the services of full listeners.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two samples of the listeners in other network namespaces.
const ELSEWHERE: Duration = Duration::from_secs(2);

/// After an error of the kernel's dump, the wait before the next one.
const RETRY_AFTER: Duration = Duration::from_secs(600);

pub struct AcceptQueues {
    reader: ProcReader,
    blocking_reads: BlockingReads,
    outcomes: Outcomes<Answer>,
    /// The full listeners, by inode number.
    full: HashMap<u64, Full>,
    searching: bool,
    /// The dump failed, and the error was logged; the time of the next attempt.
    retry_at: Timestamp,
    /// The listeners in other network namespaces; None while they are asked for.
    elsewhere: Option<QueuesElsewhere>,
    elsewhere_due: Timestamp,
}

struct Full {
    queue: AcceptQueue,
    owner: Owner,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Unknown,
    Unwatched,
    Service(ServiceId),
}

impl AcceptQueues {
    pub(crate) fn new(reader: ProcReader, blocking_reads: BlockingReads, outcomes: Outcomes<Answer>) -> Self {
        Self {
            reader,
            blocking_reads,
            outcomes,
            full: HashMap::new(),
            searching: false,
            retry_at: Timestamp::default(),
            elsewhere: Some(QueuesElsewhere::default()),
            elsewhere_due: Timestamp::default(),
        }
    }

    /// Samples all queues. [`AcceptQueues::found`] has the full ones whose services are known. The owners of the
    /// others are searched for among these main processes and their descendants, and come as [`Answer::QueueOwners`].
    pub(crate) fn sample(&mut self, mains: Vec<(ServiceId, ProcessKey)>) {
        let now = Timestamp::now();
        self.sample_elsewhere(&mains, now);
        if mains.is_empty() || now < self.retry_at {
            return;
        }
        match sockdiag::listeners() {
            Ok(listeners) => self.take(&listeners, now),
            Err(error) => {
                self.retry_at = now.plus(RETRY_AFTER);
                tracing::warn!(
                    %error,
                    "accept queues: full ones go unnoticed, as the kernel does not list its sockets over netlink; load the \
                     module tcp_diag; the next try is in ten minutes"
                );
                return;
            }
        }
        let unknown: HashSet<u64> = self
            .full
            .iter()
            .filter(|(_, full)| full.owner == Owner::Unknown)
            .map(|(inode, _)| *inode)
            .collect();
        if unknown.is_empty() || self.searching {
            return;
        }
        self.searching = true;
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        self.outcomes.spawn(async move {
            let search = blocking_reads.read(PATIENCE, move || owners(&reader, &mains, &unknown));
            let owners = search.await.inspect_err(|why| {
                tracing::warn!("full listeners: cannot find the services that they belong to: {why}");
            });
            Answer::QueueOwners(owners.unwrap_or_default())
        });
    }

    /// Samples the queues in other network namespaces. The full ones come as [`Answer::FullElsewhere`].
    fn sample_elsewhere(&mut self, mains: &[(ServiceId, ProcessKey)], now: Timestamp) {
        let concerns = |elsewhere: &QueuesElsewhere| elsewhere.concerns(mains, now);
        if now < self.elsewhere_due || !self.elsewhere.as_ref().is_some_and(concerns) {
            return;
        }
        let Some(elsewhere) = self.elsewhere.take() else { return };
        self.elsewhere_due = now.plus(ELSEWHERE);
        let (reader, blocking_reads, mains) =
            (self.reader.clone(), self.blocking_reads.clone(), mains.to_vec());
        self.outcomes.spawn(async move {
            let sample = blocking_reads.read(PATIENCE, move || elsewhere.sample(&reader, &mains));
            let sampled = sample.await.inspect_err(|why| {
                tracing::warn!(
                    "listeners in other network namespaces: cannot read whether they are full: {why}"
                );
            });
            Answer::FullElsewhere(sampled.unwrap_or_default())
        });
    }

    /// The queues in other network namespaces were sampled.
    pub(crate) fn sampled_elsewhere(&mut self, elsewhere: QueuesElsewhere) {
        self.elsewhere = Some(elsewhere);
    }

    /// The search for owners has ended. A listener that it did not find belongs to no watched service.
    pub(crate) fn searched(&mut self, owners: Owners) {
        self.searching = false;
        for (inode, owner) in owners {
            if let Some(full) = self.full.get_mut(&inode) {
                full.owner = owner.map_or(Owner::Unwatched, Owner::Service);
            }
        }
    }

    pub(crate) fn found(&self) -> Vec<(AcceptQueue, ServiceId)> {
        let of_service = |full: &Full| match full.owner {
            Owner::Service(service) => Some((full.queue, service)),
            Owner::Unknown | Owner::Unwatched => None,
        };
        let mut found: Vec<_> = self.full.values().filter_map(of_service).collect();
        found.sort_by_key(|(queue, service)| (*service, queue.port, queue.address));
        found
    }

    fn take(&mut self, listeners: &[sockdiag::ListenQueue], at: Timestamp) {
        let mut full = HashMap::new();
        for it in listeners {
            let queue = queue::queue(it, at);
            let known = self.full.remove(&it.inode);
            // A listener with a backlog of 0 is full with one connection, and no client waits there.
            if queue.waiting > 0 && queue.is_full() {
                let owner = known.map_or(Owner::Unknown, |known| known.owner);
                full.insert(it.inode, Full { queue, owner });
            }
        }
        self.full = full;
    }
}

/// The services that have these listeners open.
fn owners(reader: &ProcReader, mains: &[(ServiceId, ProcessKey)], listeners: &HashSet<u64>) -> Owners {
    let process_tree = reader.process_tree();
    let mut owners: HashMap<u64, Option<ServiceId>> = listeners.iter().map(|inode| (*inode, None)).collect();
    for (service, main) in mains {
        for (inode, _) in reader.accept_queues(&process_tree.of(main.pid)) {
            if let Some(owner) = owners.get_mut(&inode) {
                owner.get_or_insert(*service);
            }
        }
    }
    owners.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const WEB: ServiceId = ServiceId(4);

    #[tokio::test]
    async fn a_full_listener_of_a_service_is_found_as_long_as_it_is() {
        let (outcomes, mut inbox) = Outcomes::channel(4);
        let reader = ProcReader::new("/").unwrap();
        let me = reader.key_of(std::process::id()).unwrap();
        let mut queues = AcceptQueues::new(reader, BlockingReads::new(), outcomes);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = vec![TcpStream::connect(address).unwrap()];
        clients.push(TcpStream::connect(address).unwrap());

        queues.sample(vec![(WEB, me)]);
        assert_eq!(queues.found(), [], "its service is not known yet");
        let owners = loop {
            let answer = inbox.recv().await.expect("it is searched for");
            if let Answer::QueueOwners(owners) = answer {
                break owners;
            }
            let Answer::FullElsewhere((elsewhere, full)) = answer else { panic!("nothing else is asked") };
            assert_eq!(full, []);
            queues.sampled_elsewhere(elsewhere);
        };
        queues.searched(owners);
        let ours = |queues: &AcceptQueues| {
            let mut found = queues.found();
            found.retain(|(queue, _)| queue.port == address.port());
            found
        };
        let first = ours(&queues);
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].0.waiting, first[0].0.backlog, first[0].1), (2, 1, WEB));
        queues.sample(vec![(WEB, me)]);
        assert_eq!(ours(&queues).len(), 1, "it still is");

        listener.accept().unwrap();
        listener.accept().unwrap();
        queues.sample(vec![(WEB, me)]);
        assert_eq!(ours(&queues), []);
    }

    #[test]
    fn a_listener_without_a_service_is_searched_for_once() {
        let (outcomes, _inbox) = Outcomes::channel(1);
        let reader = ProcReader::new("/").unwrap();
        let mut queues = AcceptQueues::new(reader, BlockingReads::new(), outcomes);
        let listener = |inode, waiting, backlog| sockdiag::ListenQueue {
            address: [127, 0, 0, 1].into(),
            port: 80,
            inode,
            waiting,
            backlog,
        };
        queues.take(&[listener(1, 0, 0), listener(2, 10, 10), listener(3, 11, 10)], Timestamp::default());
        assert_eq!(queues.full.keys().collect::<Vec<_>>(), [&3]);
        queues.searched(vec![(3, None), (9, Some(WEB))]);
        assert_eq!(queues.found(), [], "no watched service has it");
        queues.take(&[listener(3, 11, 10)], Timestamp::default());
        assert!(queues.full[&3].owner == Owner::Unwatched, "it is not searched for again");
        queues.take(&[listener(3, 1, 10)], Timestamp::default());
        assert!(queues.full.is_empty());
    }
}
