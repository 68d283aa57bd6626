//! What an HTTP server answers.
use std::net::SocketAddr;

use hostprobe::{
    config::{HttpOptions, HttpVersion, Probe},
    fact::ProbeKind,
};
use hostprobe_fuzz::answers::{Server, probe};

std::thread_local! {
    static SERVER: Server = Server::new(make_probe, false);
}

fn make_probe(address: SocketAddr, options: u8) -> Probe {
    Probe {
        expect_body: (options & 1 != 0).then(|| "healthy".to_owned()),
        http: HttpOptions {
            version: if options & 4 == 0 { HttpVersion::Auto } else { HttpVersion::Http2 },
            ..HttpOptions::default()
        },
        expect_status: if options & 2 == 0 { Vec::new() } else { vec![200, 503] },
        ..probe(ProbeKind::Http, format!("http://{address}/health?full=1"))
    }
}

pub fn fuzz(input: &[u8]) {
    SERVER.with(|server| server.answer(input));
}
