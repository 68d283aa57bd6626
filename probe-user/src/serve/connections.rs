//! The connections of the HTTP server: few, and none for long.
//!
//! Any client can open connections and send half a request, or read an answer byte by byte. So there is a cap. At the cap
//! a new connection takes the place of the one that has been without a request for the longest time: a client that asks
//! at once is answered, however many others wait without asking. Clients that ask without end share a part of one CPU
//! (`serve/turns.rs`).

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::Request};
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
    net::{TcpListener, TcpStream},
    task::{AbortHandle, Id, JoinSet},
    time::sleep,
};

use super::{answers::waits_for_disk, turns::Turns};
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

/// How long to wait before clients are let in again after that failed, as it does without descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// Lets clients in, for ever.
pub(super) async fn accept(listener: TcpListener, router: Router) -> io::Result<()> {
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if connections.open.len() >= CONNECTIONS_MAX {
                        connections.close_idlest();
                        sleep(PACE).await;
                    }
                    connections.serve(stream, router.clone());
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
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
    turns: Arc<Turns>,
    /// Answers that may wait for the disk take these, and nothing else waits for them.
    disk_turns: Arc<Turns>,
}

struct Open {
    /// When its last request came; before the first, when it was opened.
    asked: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Connections {
    fn serve(&mut self, stream: TcpStream, router: Router) {
        let asked = Arc::new(AtomicU64::new(Timestamp::now().as_nanos()));
        let turns = [Arc::clone(&self.turns), Arc::clone(&self.disk_turns)];
        let task = self.tasks.spawn(serve_one(stream, router, Arc::clone(&asked), turns));
        self.open.insert(task.id(), Open { asked, task });
    }

    fn close_idlest(&mut self) {
        let idlest = self.open.iter().min_by_key(|(_, open)| open.asked.load(Ordering::Relaxed));
        if let Some((&id, open)) = idlest {
            open.task.abort();
            self.open.remove(&id);
        }
    }
}

async fn serve_one(stream: TcpStream, router: Router, asked: Arc<AtomicU64>, turns: [Arc<Turns>; 2]) {
    let router = TowerToHyperService::new(router);
    let is_endless = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&is_endless);
    let answer = service_fn(move |request: Request<Incoming>| {
        asked.store(Timestamp::now().as_nanos(), Ordering::Relaxed);
        let [quick, disk] = &turns;
        let turns = if waits_for_disk(request.uri()) { disk } else { quick };
        let (answer, turns, mark) = (router.call(request), Arc::clone(turns), Arc::clone(&mark));
        async move {
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
