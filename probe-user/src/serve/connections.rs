//! The connections of the HTTP server: few, and none for long.
//!
//! Any client can open connections and send half a request, or read an answer byte by byte. So there is a cap. At the cap
//! a new connection takes the place of the one that has been without a request for the longest time: a client that asks
//! at once is answered, however many others wait without asking. Clients that ask without end share a part of one CPU
//! (`serve/turns.rs`).
//!
//! Where clients bring a token along, those that have shown it keep their places: at the cap, one of the others goes, of the
//! address that has the most of them. So a client on another host cannot crowd out those of a third one.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{Request, header::AUTHORIZATION},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, Id, JoinSet},
    time::sleep,
};

use super::{access::Access, answers::waits_for_disk, turns::Turns};
use crate::clock::Timestamp;

/// The most connections at once. A monitoring system, a load balancer and a few people need a handful.
pub(super) const CONNECTIONS_MAX: usize = 32;

/// How long a client may take to send the head of a request, and to send the next one on the same connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last: a client that reads its answer slowly is cut off.
const LIFETIME: Duration = Duration::from_secs(60);

/// Marks an answer that has no end: its connection may last as long as the client likes. It still is the idlest at some
/// time, and makes place for others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endless;

/// The largest head of a request, in bytes. hyper takes no less.
const HEAD_MAX: usize = 8192;

const HEADERS_MAX: usize = 64;

/// The wait between two clients at the cap. It bounds the CPU time that a flood of them takes, and gives each of them 32
/// times as long to ask before it is the idlest.
const PACE: Duration = Duration::from_millis(1);

/// As many places are left to clients that have not shown the token yet.
const FOR_NEWCOMERS: usize = CONNECTIONS_MAX / 4;

/// How long to wait before clients are let in again after that failed, as it does without descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// Lets clients in, for ever.
pub(super) async fn accept(listener: TcpListener, router: Router, access: Access) -> io::Result<()> {
    let mut connections = Connections { access, ..Connections::default() };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if connections.open.len() >= CONNECTIONS_MAX {
                        connections.close_one();
                        sleep(PACE).await;
                    }
                    connections.serve(stream, peer.ip(), router.clone());
                }
                Err(error) => {
                    tracing::warn!("http: could not let a client in: {error}; the next try is in {PAUSE:?}");
                    sleep(PAUSE).await;
                }
            },
            Some(ended) = connections.tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                connections.open.remove(&id);
            }
        }
    }
}

#[derive(Default)]
struct Connections {
    access: Access,
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
    turns: Arc<Turns>,
    /// Answers that may wait for the disk take these, and nothing else waits for them.
    disk_turns: Arc<Turns>,
}

struct Open {
    peer: IpAddr,
    seen: Arc<Seen>,
    task: AbortHandle,
}

/// What is known of a client by its requests.
struct Seen {
    /// When its last request came; before the first, when it was opened.
    asked: AtomicU64,
    /// It has brought the token along.
    is_trusted: AtomicBool,
}

impl Connections {
    fn serve(&mut self, stream: TcpStream, peer: IpAddr, router: Router) {
        let asked = AtomicU64::new(Timestamp::now().as_nanos());
        let seen = Arc::new(Seen { asked, is_trusted: AtomicBool::new(false) });
        let turns = [Arc::clone(&self.turns), Arc::clone(&self.disk_turns)];
        let client = Client { peer, seen: Arc::clone(&seen), access: self.access.clone(), turns };
        let task = self.tasks.spawn(serve_one(stream, router, client));
        self.open.insert(task.id(), Open { peer, seen, task });
    }

    fn close_one(&mut self) {
        if let Some(id) = self.to_close() {
            self.open.remove(&id).inspect(|open| open.task.abort());
        }
    }

    /// The idlest; with a token, the idlest of the address with the most connections among those that have not shown it.
    fn to_close(&self) -> Option<Id> {
        let idlest = |open: &[(&Id, &Open)]| {
            let idlest = open.iter().min_by_key(|(_, open)| open.seen.asked.load(Ordering::Relaxed));
            idlest.map(|(id, _)| **id)
        };
        let all: Vec<_> = self.open.iter().collect();
        let untrusted: Vec<_> =
            all.iter().copied().filter(|(_, open)| !open.seen.is_trusted.load(Ordering::Relaxed)).collect();
        if !self.access.takes_token() || untrusted.len() < FOR_NEWCOMERS {
            return idlest(&all);
        }
        let mut by_network: HashMap<IpAddr, Vec<(&Id, &Open)>> = HashMap::new();
        for (id, open) in untrusted {
            by_network.entry(network(open.peer)).or_default().push((id, open));
        }
        let most = by_network.into_values().max_by_key(Vec::len);
        most.and_then(|most| idlest(&most))
    }
}

/// What one client can have many addresses of: an address of IPv4, or 64 bits of one of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

struct Client {
    peer: IpAddr,
    seen: Arc<Seen>,
    access: Access,
    turns: [Arc<Turns>; 2],
}

async fn serve_one(stream: TcpStream, router: Router, client: Client) {
    let Some(certificate) = client.access.certificate() else { return answer(stream, router, client).await };
    let access = client.access.clone();
    if let Some(stream) = access.handshakes().make(stream, certificate).await {
        answer(stream, router, client).await;
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, client: Client) {
    let Client { peer, seen, access, turns } = client;
    let router = TowerToHyperService::new(router);
    let is_endless = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&is_endless);
    let answer = service_fn(move |request: Request<Incoming>| {
        let is_admitted = access.admits(request.uri(), request.headers());
        seen.asked.store(Timestamp::now().as_nanos(), Ordering::Relaxed);
        let has_token = is_admitted && request.headers().contains_key(AUTHORIZATION);
        seen.is_trusted.fetch_or(has_token, Ordering::Relaxed);
        let [quick, disk] = &turns;
        let turns = if waits_for_disk(request.uri()) { disk } else { quick };
        let (turns, mark, access) = (Arc::clone(turns), Arc::clone(&mark), access.clone());
        let answer = is_admitted.then(|| router.call(request));
        async move {
            let Some(answer) = answer else {
                return access.refusals().turns().take(async { Ok(access.refuse(peer)) }).await;
            };
            let answer = turns.take(answer).await;
            let is_endless = answer.as_ref().is_ok_and(|it| it.extensions().get::<Endless>().is_some());
            mark.store(is_endless, Ordering::Relaxed);
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), answer);
    let lifetime = async {
        loop {
            sleep(LIFETIME).await;
            if !is_endless.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!("http: a connection ended: {error}");
        },
        () = lifetime => {}
    }
}
