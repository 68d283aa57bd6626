//! The event stream, from the spool to JetStream: at least once, and each event with its id.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{Context, context::PublishAckFuture},
};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    connect::foreign,
    sign::{Signed, Signer},
    spool::{Lines, Reader},
    subject,
};

/// So many events are on their way at once.
const UNDER_WAY: usize = 64;

/// How long the acknowledgement of them may take.
const ACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Between two tries.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Line<'l> {
    #[serde(borrow)]
    event: Event<'l>,
}

#[derive(Deserialize)]
struct Event<'l> {
    #[serde(borrow)]
    id: std::borrow::Cow<'l, str>,
}

/// The header of an event with its signature.
pub(super) const SIGNATURE: &str = "Hostprobe-Signature";

/// What is signed of an event. It has its own id and number.
pub(super) fn signed<'e>(subject: &'e str, line: &'e [u8]) -> Signed<'e> {
    Signed { subject, sequence: 0, body: line }
}

/// Sends all that comes, whenever the server is there, until the daemon ends.
pub(super) async fn send(
    jetstream: Context,
    mut spool: Reader,
    host: String,
    signer: Option<Signer>,
    mut connected: watch::Receiver<bool>,
) {
    let subject = subject::events_of(&host);
    let mut has_warned = false;
    loop {
        if connected.wait_for(|connected| *connected).await.is_err() {
            return;
        }
        let sent = match spool.next().await {
            Ok(lines) => match send_all(&jetstream, (&subject, signer.as_ref()), &lines).await {
                Ok(()) => spool.acknowledge(&lines).map_err(|error| error.to_string()),
                Err(why) => Err(why),
            },
            Err(error) => Err(error.to_string()),
        };
        match sent {
            Ok(()) if has_warned => {
                has_warned = false;
                tracing::info!("fleet: events are sent again");
            }
            Ok(()) => {}
            Err(why) => {
                if !std::mem::replace(&mut has_warned, true) {
                    let waiting = spool.waiting();
                    tracing::warn!("fleet: events are not sent, {waiting} bytes wait on disk: {why}");
                }
                sleep(RETRY).await;
            }
        }
    }
}

async fn send_all(jetstream: &Context, host: (&str, Option<&Signer>), lines: &Lines) -> Result<(), String> {
    let lines: Vec<&[u8]> = lines.iter().collect();
    for group in lines.chunks(UNDER_WAY) {
        let work = async {
            let mut under_way = Vec::with_capacity(group.len());
            for line in group {
                under_way.push(send_one(jetstream, host, line).await?);
            }
            for ack in under_way {
                ack.await.map_err(|error| foreign(&error.to_string()))?;
            }
            Ok(())
        };
        timeout(ACKNOWLEDGED, work)
            .await
            .unwrap_or_else(|_| Err(format!("no acknowledgement within {ACKNOWLEDGED:?}")))?;
    }
    Ok(())
}

async fn send_one(
    jetstream: &Context,
    (subject, signer): (&str, Option<&Signer>),
    line: &[u8],
) -> Result<PublishAckFuture, String> {
    let mut headers = HeaderMap::new();
    if let Ok(Line { event }) = serde_json::from_slice::<Line<'_>>(line) {
        headers.insert("Nats-Msg-Id", event.id.as_ref());
    }
    if let Some(signature) = signer.and_then(|signer| signer.sign(&signed(subject, line))) {
        headers.insert(SIGNATURE, signature);
    }
    let sent = jetstream.publish_with_headers(subject.to_owned(), headers, line.to_vec().into()).await;
    sent.map_err(|error| foreign(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_event_is_read_from_its_line() {
        let line: Line<'_> =
            serde_json::from_slice(br#"{"a":1,"event":{"action":"x","id":"c0ffee00-7"}}"#).unwrap();
        assert_eq!(line.event.id, "c0ffee00-7");
    }
}
