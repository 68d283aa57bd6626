//! A client that watches the events.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt as _, BufReader},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use super::lines::{line, write};
use crate::{
    emit::Batch,
    serve::{live, shown::Shown},
};

/// A line of the answer to `Request::Events`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streamed {
    /// An event as the stream has it.
    Event(Box<RawValue>),
    /// The client missed so many events; None if that is not known.
    Missed(Option<u64>),
}

/// Writes events until the client goes away or does not read.
pub(super) async fn watch(
    shown: &Shown,
    after: Option<&str>,
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    let sequence = after.and_then(|id| live::sequence(id, &shown.origin.agent().ephemeral_id));
    let mut watcher = shown.tail.watch(sequence);
    if after.is_some() && sequence.is_none() {
        write(&mut to, &line(&Streamed::Missed(None))?).await?;
    }
    let mut unasked = [0];
    loop {
        tokio::select! {
            batch = watcher.next() => write(&mut to, &lines(&batch)?).await?,
            // It has nothing more to ask here.
            _ = from.read(&mut unasked) => return Ok(()),
        }
    }
}

fn lines(batch: &Batch) -> io::Result<Vec<u8>> {
    let mut text = match batch.missed {
        0 => Vec::new(),
        missed => line(&Streamed::Missed(Some(missed)))?,
    };
    for event in &batch.lines {
        text.extend(line(&Streamed::Event(serde_json::from_slice(event)?))?);
    }
    Ok(text)
}
