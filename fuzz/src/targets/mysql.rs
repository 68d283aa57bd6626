//! What a MySQL or MariaDB server answers.
use std::{net::SocketAddr, panic, sync::Once};

use hostprobe::{config::Probe, fact::ProbeKind};
use hostprobe_fuzz::answers::{Server, limits, probe};

std::thread_local! {
    static SERVER: Server = Server::new(make_probe, true);
}

fn make_probe(address: SocketAddr, options: u8) -> Probe {
    let login = if options & 1 == 0 { "" } else { "user:secret@" };
    Probe {
        connections_percent: (options & 2 != 0).then_some(80),
        auth_is_alive: options & 4 != 0,
        server: limits(options & 8 != 0),
        ..probe(ProbeKind::Mysql, format!("mysql://{login}{address}/orders"))
    }
}

/// The library panics at a wrong public key. The probe has it do so in a thread, and takes the panic for an answer.
fn expect_panics_at_keys() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let is_expected = info.location().is_some_and(|at| at.file().contains("/mysql_common-"));
        if !is_expected {
            report(info);
        }
    }));
}

pub fn fuzz(input: &[u8]) {
    static BEFORE: Once = Once::new();
    BEFORE.call_once(expect_panics_at_keys);
    SERVER.with(|server| server.answer(input));
}
