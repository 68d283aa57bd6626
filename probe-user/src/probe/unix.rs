//! Unix sockets: does a server accept a connection, and does it answer what is expected?

use std::path::PathBuf;

use super::{exchange, failure::Failure, progress::Waiting, tcp::connect_unix};
use crate::{config::Probe, fact::ProbeOutcome};

pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.expose();
    let stream = connect_unix(&path(target), waiting).await.map_err(|failure| Failure {
        // An abstract name begins with a zero byte, which no text should have.
        text: failure.text.replace('\0', "@"),
        ..failure
    })?;
    exchange::over_stream(&probe.exchange, stream, target, waiting).await
}

/// The path, or the name that begins with a zero byte (`unix(7)`).
fn path(target: &str) -> PathBuf {
    match target.strip_prefix('@') {
        Some(name) => format!("\0{name}").into(),
        None => target.into(),
    }
}
