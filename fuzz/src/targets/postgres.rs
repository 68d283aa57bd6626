//! What a PostgreSQL server or a pooler answers.
use std::net::SocketAddr;

use hostprobe::{config::Probe, fact::ProbeKind};
use hostprobe_fuzz::answers::{Server, limits, probe};

std::thread_local! {
    static SERVER: Server = Server::new(make_probe, false);
}

fn make_probe(address: SocketAddr, options: u8) -> Probe {
    let password = if options & 1 == 0 { "" } else { ":secret" };
    Probe {
        connections_percent: (options & 2 != 0).then_some(80),
        auth_is_alive: options & 4 != 0,
        server: limits(options & 8 != 0),
        ..probe(ProbeKind::Postgres, format!("postgres://user{password}@{address}/orders"))
    }
}

pub fn fuzz(input: &[u8]) {
    SERVER.with(|server| server.answer(input));
}
