//! The event stream, from the spool to JetStream: at least once, and each event with its id.
//!
//! JetStream takes two messages with one id for the same one, whichever host they are from. An event that it calls a
//! duplicate although it is sent for the first time is sent again under an id that no other host can know before.

use std::{error::Error as _, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        self, Context, ErrorCode,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::digest;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    connect::foreign,
    queue::Queue,
    sign::{Signed, Signer},
    spool::{Lines, Position, Reader},
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

/// The header by which JetStream knows a message that comes twice.
const ID: &str = "Nats-Msg-Id";

/// The header of an event with its signature.
pub(super) const SIGNATURE: &str = "Hostprobe-Signature";

/// What is signed of an event. It has its own id and number.
pub(super) fn signed<'e>(subject: &'e str, line: &'e [u8]) -> Signed<'e> {
    Signed { subject, sequence: 0, body: line }
}

/// Sends all that comes, whenever the server is there, until the daemon ends.
pub(super) async fn send(
    jetstream: Context,
    spool: Reader,
    host: String,
    signer: Option<Signer>,
    mut connected: watch::Receiver<bool>,
) {
    let mut sender = Sender {
        jetstream,
        subject: subject::events_of(&host),
        host,
        signer,
        queue: Queue::new(spool),
        tried: Position::default(),
        ids_are_used: false,
        too_long: 0,
        has_warned_of_size: false,
    };
    let mut has_warned = false;
    loop {
        if connected.wait_for(|connected| *connected).await.is_err() {
            return;
        }
        match sender.send_next().await {
            Ok(()) if has_warned => {
                has_warned = false;
                tracing::info!("fleet: events are sent again");
            }
            Ok(()) => {}
            Err(why) => {
                if !std::mem::replace(&mut has_warned, true) {
                    let waiting = sender.queue.bytes();
                    tracing::warn!("fleet: events are not sent, {waiting} bytes wait on disk: {why}");
                }
                sleep(RETRY).await;
            }
        }
    }
}

/// A line, and the position that follows it in the queue.
type Queued<'l> = (&'l [u8], Position);

/// Why an event is not in the stream.
enum Failure {
    /// It is longer than the server or the stream takes, today and tomorrow.
    TooLong(String),
    Other(String),
}

struct Sender {
    jetstream: Context,
    subject: String,
    host: String,
    signer: Option<Signer>,
    queue: Queue,
    /// What is before it has been sent at least once, acknowledged or not.
    tried: Position,
    /// The stream had a message with the id of an event that was new.
    ids_are_used: bool,
    /// How many events of the group that is sent are too long.
    too_long: u64,
    has_warned_of_size: bool,
}

impl Sender {
    /// Sends the next lines of the queue once there are some.
    async fn send_next(&mut self) -> Result<(), String> {
        let lines = self.queue.next().await?;
        let all: Vec<Queued<'_>> = lines.iter().collect();
        for group in all.chunks(UNDER_WAY) {
            self.too_long = 0;
            let sent = timeout(ACKNOWLEDGED, self.send_group(group, &lines)).await;
            sent.unwrap_or_else(|_| Err(format!("no acknowledgement within {ACKNOWLEDGED:?}")))?;
            // Not before: a group that fails is sent again.
            self.queue.lose(self.too_long);
            if let Some((_, end)) = group.last() {
                self.queue.acknowledge(*end).await?;
            }
        }
        Ok(())
    }

    async fn send_group(&mut self, group: &[Queued<'_>], lines: &Lines) -> Result<(), String> {
        let (tried, mut under_way) = (self.tried, Vec::with_capacity(group.len()));
        for (line, end) in group {
            self.tried = self.tried.max(*end);
            let may_be_there = lines.is_earlier || *end <= tried;
            match self.send_one(line, id_of(line)).await {
                Ok(ack) => under_way.push((*line, may_be_there, ack)),
                Err(failure) => self.give_up(failure)?,
            }
        }
        let mut taken = Vec::new();
        for (line, may_be_there, ack) in under_way {
            match ack.await {
                Ok(ack) if ack.duplicate && (!may_be_there || self.ids_are_used) => {
                    self.on_taken(line);
                    taken.push(line);
                }
                Ok(_) => {}
                Err(error) => self.give_up(failure(&error))?,
            }
        }
        self.send_by_other_ids(&taken).await
    }

    /// The id of a new event is taken.
    fn on_taken(&mut self, line: &[u8]) {
        if !std::mem::replace(&mut self.ids_are_used, true) {
            let id = id_of(line).unwrap_or_default();
            tracing::warn!(
                "fleet: the stream has a message with the id of a new event, {id}: another host uses the ids of this one; such \
                 events are sent with a longer id"
            );
        }
    }

    /// Sends events whose ids are taken.
    async fn send_by_other_ids(&mut self, lines: &[&[u8]]) -> Result<(), String> {
        let mut under_way = Vec::with_capacity(lines.len());
        for line in lines {
            let Some(id) = id_of(line) else { continue };
            let digest = STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, line));
            match self.send_one(line, Some(format!("{id}.{}.{digest}", self.host))).await {
                Ok(ack) => under_way.push(ack),
                Err(failure) => self.give_up(failure)?,
            }
        }
        for ack in under_way {
            if let Err(error) = ack.await {
                self.give_up(failure(&error))?;
            }
        }
        Ok(())
    }

    async fn send_one(&self, line: &[u8], id: Option<String>) -> Result<PublishAckFuture, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(id) = id {
            headers.insert(ID, id);
        }
        if let Some(signature) =
            self.signer.as_ref().and_then(|signer| signer.sign(&signed(&self.subject, line)))
        {
            headers.insert(SIGNATURE, signature);
        }
        let message = line.to_vec().into();
        let sent = self.jetstream.publish_with_headers(self.subject.clone(), headers, message).await;
        sent.map_err(|error| failure(&error))
    }

    /// Gives up an event that would hold up all that follow it. Any other failure is returned.
    fn give_up(&mut self, failure: Failure) -> Result<(), String> {
        match failure {
            Failure::Other(why) => Err(why),
            Failure::TooLong(why) => {
                self.too_long += 1;
                if !std::mem::replace(&mut self.has_warned_of_size, true) {
                    tracing::warn!(
                        "fleet: an event is lost: {why}; let NATS take messages of 40 KiB (max_payload, and max_msg_size of \
                         the stream)"
                    );
                }
                Ok(())
            }
        }
    }
}

/// The id of an event, as far as a header can hold it.
fn id_of(line: &[u8]) -> Option<String> {
    let Line { event } = serde_json::from_slice(line).ok()?;
    let is_plain = event.id.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| event.id.into_owned())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
fn failure(error: &PublishError) -> Failure {
    let why = foreign(&error.to_string());
    let code = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    let is_too_long = match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => true,
        PublishErrorKind::Other => {
            code.is_some_and(|error| error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)
        }
        _ => false,
    };
    if is_too_long { Failure::TooLong(why) } else { Failure::Other(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_event_is_read_from_its_line() {
        let id = id_of(br#"{"a":1,"event":{"action":"x","id":"c0ffee00-7"}}"#);
        assert_eq!(id.as_deref(), Some("c0ffee00-7"));
        assert_eq!(id_of(br#"{"event":{"id":"a\r\nb: c"}}"#), None);
        assert_eq!(id_of(b"half a line"), None);
    }
}
