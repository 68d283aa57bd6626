//! A server that answers a probe with the bytes of an input.
//!
//! The probe runs as the daemon runs it, over a real connection. The clock stands still while anything can be done, and
//! then leaps to the next timer: an input that has the probe wait costs no time.

use std::{net::SocketAddr, time::Duration};

use hostprobe::{
    config::{Probe, Secret},
    fact::{DatabaseRole, ProbeKind, ServerLimits},
    probe::{self, Clients, Kept},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::split;

/// Between the connections of an input.
const CONNECTION: &[u8] = b"\n==\n";
/// Between the answers of a connection.
const ANSWER: &[u8] = b"\n--\n";
/// Begins an answer that the server repeats for as long as the probe reads.
const ENDLESS: &[u8] = b"*\n";

/// The bytes of an endless answer end here: a probe reads no more than 1 MiB, and the sockets have buffers.
const ENDLESS_MAX: usize = 32 << 20;

/// After a run, the open session may list the holders of connections for this long, twice.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// A probe for the address of the server. The first byte of an input chooses between its options.
pub type MakeProbe = fn(SocketAddr, u8) -> Probe;

/// A probe of a target with a timeout.
pub fn probe(kind: ProbeKind, target: String) -> Probe {
    Probe::new(kind, Secret::new(target))
}

/// Limits that every report of a server can exceed.
pub fn limits(given: bool) -> ServerLimits {
    let least = given.then_some(Duration::from_secs(1));
    ServerLimits { role: given.then_some(DatabaseRole::Replica), lag: least, transaction: least, wait: least }
}

pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    clients: Clients,
    make_probe: MakeProbe,
    speaks_first: bool,
}

impl Server {
    /// A server that speaks first sends its first answer without a question.
    pub fn new(make_probe: MakeProbe, speaks_first: bool) -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let clients = Clients::new().expect("the probes' clients");
        Self { runtime, listener, address, clients, make_probe, speaks_first }
    }

    /// Runs the probe twice, so that it uses what it kept from the first run.
    pub fn answer(&self, input: &[u8]) {
        let Some((options, script)) = input.split_first() else { return };
        let probe = (self.make_probe)(self.address, *options);
        self.runtime.block_on(async {
            let asking = async {
                let mut kept = Kept::default();
                for _ in 0..2 {
                    let begun = Instant::now();
                    let run = probe::run(&probe, &self.clients, &mut kept).await;
                    assert!(run.took <= probe.timeout + Duration::from_millis(50), "{run:?}");
                    assert!(begun.elapsed() <= probe.timeout + AFTERWARDS + Duration::from_millis(50));
                }
            };
            tokio::select! {
                () = asking => {}
                () = self.serve(script) => {}
            }
            // What the probe left behind says goodbye and ends.
            tokio::time::sleep(Duration::from_secs(10)).await;
            while timeout(Duration::from_millis(1), self.listener.accept()).await.is_ok() {}
        });
    }

    /// Serves each connection with its part of the script, and closes any further one.
    async fn serve(&self, script: &[u8]) {
        let mut connections = split(script, CONNECTION);
        let mut serving = JoinSet::new();
        loop {
            let Ok((stream, _)) = self.listener.accept().await else { continue };
            let answers = connections.next().into_iter().flat_map(|part| split(part, ANSWER));
            let answers: Vec<Vec<u8>> = answers.map(<[u8]>::to_vec).collect();
            serving.spawn(serve_one(stream, answers, self.speaks_first));
        }
    }
}

async fn serve_one(mut stream: TcpStream, answers: Vec<Vec<u8>>, speaks_first: bool) {
    let mut question = [0; 4096];
    for (number, answer) in answers.into_iter().enumerate() {
        let is_asked = !speaks_first || number > 0;
        if is_asked && !stream.read(&mut question).await.is_ok_and(|length| length > 0) {
            return;
        }
        let Some(part) = answer.strip_prefix(ENDLESS) else {
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            continue;
        };
        // Small parts would cost the fuzzer more time than the probe.
        let part = part.repeat(4096_usize.checked_div(part.len()).unwrap_or_default());
        let mut sent = 0;
        while !part.is_empty() && stream.write_all(&part).await.is_ok() {
            sent += part.len();
            assert!(sent < ENDLESS_MAX, "the probe reads without end");
        }
    }
    // It has no more to say, and leaves the end to the probe.
    let _ = stream.shutdown().await;
    while stream.read(&mut question).await.is_ok_and(|length| length > 0) {}
}
