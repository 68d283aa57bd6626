//! Unix sockets: does a server accept a connection, and does it answer what is expected?

use super::{exchange, failure::Failure, progress::Waiting, tcp::connect_unix};
use crate::{config::Probe, fact::ProbeOutcome};

pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.expose();
    let stream = connect_unix(target, waiting).await?;
    exchange::over_stream(&probe.exchange, stream, target, waiting).await
}
