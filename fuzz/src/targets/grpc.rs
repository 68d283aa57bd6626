//! What a gRPC server answers to a health check: frames of HTTP/2.
use std::net::SocketAddr;

use hostprobe::{config::Probe, fact::ProbeKind};
use hostprobe_fuzz::answers::{Server, probe};

std::thread_local! {
    static SERVER: Server = Server::new(make_probe, false);
}

fn make_probe(address: SocketAddr, options: u8) -> Probe {
    let service = if options & 1 == 0 { "" } else { "/shop.v1.Orders" };
    probe(ProbeKind::Grpc, format!("grpc://{address}{service}"))
}

pub fn fuzz(input: &[u8]) {
    SERVER.with(|server| server.answer(input));
}
