//! Lines of JSON to a client.

use std::{io, time::Duration};

use serde::Serialize;
use tokio::{io::AsyncWriteExt as _, net::unix::OwnedWriteHalf, time::timeout};

/// The longest wait for a client's question, and then for the client to read its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

pub(super) async fn write(to: &mut OwnedWriteHalf, lines: &[u8]) -> io::Result<()> {
    timeout(PATIENCE, to.write_all(lines)).await?
}
