//! The server that a service waits for while a probe of it waits.
//!
//! A service that passes connections on, or asks a server for each request, is as silent as that server. The kernel knows
//! for each connection whether data was read, and when data last went each way (`struct tcp_info`).

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    thread,
    time::Duration,
};

use super::{ProcReader, sockdiag, sockdiag::Exchange};
use crate::{
    clock::Timestamp,
    fact::{DNS_PORT, ProcessKey},
};

/// Two times of one moment may differ by this much: a tick of the kernel, on either of them.
const TICKS: Duration = Duration::from_millis(20);

/// A connection over which nothing ever came back, and more than this went out, is a log and no question. In segments.
const QUESTION_MAX: u32 = 16;

/// How long a question to a DNS server is looked at: the answer of one that works comes sooner.
const DNS_OVER: Duration = Duration::from_millis(50);

/// What a service waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub at: Timestamp,
    pub server: SocketAddr,
}

impl ProcReader {
    /// The server that a service with this main process waits for: the service has read what each of the daemon's waiting
    /// probes asked, has asked that server as often since, and had no answer. Or it has such a question to a DNS server.
    ///
    /// None where no probe waits, and where the service is in another network namespace, which the kernel does not
    /// show.
    pub fn awaited_by(&self, main: ProcessKey) -> Option<Awaited> {
        let namespace = fs::read_link(self.folder(main.pid).join("ns/net")).ok()?;
        if self.own_namespace() != Some(namespace) || self.key_of(main.pid) != Some(main) {
            return None;
        }
        let at = Timestamp::now();
        let pids = self.process_tree().of(main.pid);
        let ports: HashSet<u16> = self.accept_queues(&pids).iter().map(|(_, queue)| queue.port).collect();
        let own: HashSet<u64> = self.socket_inodes(std::process::id()).into_iter().collect();
        let its: HashSet<u64> = pids.iter().flat_map(|&pid| self.socket_inodes(pid)).collect();
        let found = sockdiag::exchanges().ok()?;
        let waiting = waiting(&found, &ports, &own, &its)?;
        let server =
            awaited(&found, &ports, &its, &waiting).or_else(|| self.awaited_resolver(main.pid, &its))?;
        Some(Awaited { at, server })
    }

    /// The DNS server that one of these sockets has a question at, which that does not answer at once.
    fn awaited_resolver(&self, pid: u32, its: &HashSet<u64>) -> Option<SocketAddr> {
        let net = self.folder(pid).join("net");
        let questions = || {
            let found = self.datagrams_to(&net, DNS_PORT).unwrap_or_default();
            found.into_iter().filter(|it| its.contains(&it.inode)).map(|it| (it.inode, it.remote))
        };
        let before: HashSet<_> = questions().collect();
        if before.is_empty() {
            return None;
        }
        thread::sleep(DNS_OVER);
        questions().find(|question| before.contains(question)).map(|(_, server)| server)
    }
}

/// The service's ends of the connections by which probes wait for it, if it has read what each of them asked. From the
/// connections of a network namespace, the ports of the service, and the inodes of the daemon's sockets and of the
/// service's.
fn waiting<'a>(
    found: &'a [Exchange],
    ports: &HashSet<u16>,
    own: &HashSet<u64>,
    its: &HashSet<u64>,
) -> Option<Vec<&'a Exchange>> {
    let to_service = |it: &&Exchange| ports.contains(&it.connection.remote.port());
    let probes: HashSet<SocketAddr> = found
        .iter()
        .filter(|it| own.contains(&it.connection.inode))
        .filter(to_service)
        .map(|it| it.connection.local)
        .collect();
    let at_service = |it: &&Exchange| {
        ports.contains(&it.connection.local.port()) && probes.contains(&it.connection.remote)
    };
    let waiting: Vec<_> = found.iter().filter(at_service).collect();
    let is_read = |it: &&Exchange| its.contains(&it.connection.inode) && it.unread == 0;
    let is_all = !waiting.is_empty() && waiting.len() >= probes.len() && waiting.iter().all(is_read);
    is_all.then_some(waiting)
}

/// The server that the service has asked for each of these connections since, without an answer.
fn awaited(
    found: &[Exchange],
    ports: &HashSet<u16>,
    its: &HashSet<u64>,
    waiting: &[&Exchange],
) -> Option<SocketAddr> {
    let first_asked = waiting.iter().map(|it| it.received_ago).max()?;
    let mut asked: HashMap<SocketAddr, usize> = HashMap::new();
    let outbound = found.iter().filter(|it| its.contains(&it.connection.inode));
    for it in outbound.filter(|it| !ports.contains(&it.connection.local.port())) {
        let remote = it.connection.remote;
        // What one of its processes asks another one is its own matter.
        let is_own = ports.contains(&remote.port()) && remote.ip() == it.connection.local.ip();
        // A server that has answered since then is at work, as one that is polled.
        let is_silent = it.segments_received == 0 || it.received_ago + TICKS >= first_asked;
        if !is_own && is_silent && is_question(it) && it.sent_ago <= first_asked + TICKS {
            *asked.entry(remote).or_default() += 1;
        }
    }
    let most = asked.into_iter().max_by_key(|(server, count)| (*count, *server))?;
    (most.1 >= waiting.len()).then_some(most.0)
}

/// Whether the other end of a connection owes an answer, or its first words.
fn is_question(it: &Exchange) -> bool {
    if it.segments_received == 0 { it.segments_sent <= QUESTION_MAX } else { it.sent_ago < it.received_ago }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sockdiag::Connection;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A connection with an answer that is as old as its question.
    fn exchange(inode: u64, local: &str, remote: &str, ago: u64) -> Exchange {
        Exchange {
            connection: Connection { inode, local: at(local), remote: at(remote), retransmits: 0 },
            unread: 0,
            sent_ago: Duration::from_millis(ago),
            received_ago: Duration::from_millis(ago),
            segments_sent: 1,
            segments_received: 1,
        }
    }

    const PROBE: u64 = 1;
    const SERVED: u64 = 10;
    const ASKED: u64 = 11;
    const LOG: u64 = 12;

    fn find(found: &[Exchange]) -> Option<SocketAddr> {
        let ports = HashSet::from([80]);
        let its = HashSet::from([SERVED, ASKED, LOG, 13]);
        let waiting = waiting(found, &ports, &HashSet::from([PROBE, 2]), &its)?;
        awaited(found, &ports, &its, &waiting)
    }

    /// A probe that waits since 700 ms, and a service that has asked a server for it 1 ms later.
    fn forwarded() -> Vec<Exchange> {
        let served = exchange(SERVED, "127.0.0.1:80", "127.0.0.1:4000", 700);
        let asked = exchange(ASKED, "127.0.0.1:4100", "127.0.0.1:6379", 699);
        vec![
            exchange(PROBE, "127.0.0.1:4000", "127.0.0.1:80", 700),
            served,
            Exchange { segments_received: 0, ..asked },
        ]
    }

    #[test]
    fn a_service_that_asked_a_server_for_each_probe_waits_for_it() {
        assert_eq!(find(&forwarded()), Some(at("127.0.0.1:6379")));
        let mut kept = forwarded();
        // A connection that was used before.
        kept[2] = Exchange { segments_received: 9, received_ago: Duration::from_secs(5), ..kept[2] };
        assert_eq!(find(&kept), Some(at("127.0.0.1:6379")));
        let mut greeting = forwarded();
        // Neither end of it says anything before the server does.
        greeting[2].segments_sent = 0;
        assert_eq!(find(&greeting), Some(at("127.0.0.1:6379")));
    }

    #[test]
    fn without_a_waiting_probe_or_an_open_question_it_waits_for_nothing() {
        let change = |change: fn(&mut Vec<Exchange>)| {
            let mut found = forwarded();
            change(&mut found);
            find(&found)
        };
        assert_eq!(change(|it| it.truncate(2)), None, "it sends no request");
        assert_eq!(find(&forwarded()[1..]), None, "no probe waits");
        assert_eq!(change(|it| it[1].unread = 20), None, "it does not read");
        assert_eq!(change(|it| it[1].connection.inode = 0), None, "it does not accept");
        assert_eq!(change(|it| it[2].segments_received = 1), None, "it was answered at once");
        assert_eq!(change(|it| it[2].sent_ago = Duration::from_secs(3)), None, "it asked before");
        let polled = |it: &mut Vec<Exchange>| {
            let (sent_ago, received_ago) = (Duration::from_millis(100), Duration::from_millis(120));
            it[2] = Exchange { segments_received: 9, sent_ago, received_ago, ..it[2] };
        };
        assert_eq!(change(polled), None, "that server has answered meanwhile");
        assert_eq!(change(|it| it[2].segments_sent = 500), None, "it writes a log there");
        assert_eq!(change(|it| it[2].connection.remote = at("127.0.0.1:80")), None, "it asks itself");
        let second = |it: &mut Vec<Exchange>| {
            it.push(exchange(2, "127.0.0.1:4001", "127.0.0.1:80", 300));
            it.push(exchange(13, "127.0.0.1:80", "127.0.0.1:4001", 300));
        };
        assert_eq!(change(second), None, "it asked for one of two");
    }

    #[test]
    fn the_kernel_says_whether_a_question_is_open() {
        use std::io::{Read as _, Write as _};

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let local = client.local_addr().unwrap();
        let seen = || {
            let all = sockdiag::exchanges().unwrap();
            all.into_iter().find(|it| it.connection.local == local).unwrap()
        };
        client.write_all(b"x").unwrap();
        assert!(is_question(&seen()));
        server.read_exact(&mut [0]).unwrap();
        assert!(is_question(&seen()));
        server.write_all(b"y").unwrap();
        assert_eq!(seen().unread, 1);
        client.read_exact(&mut [0]).unwrap();
        assert!(!is_question(&seen()) && seen().unread == 0);
    }
}
