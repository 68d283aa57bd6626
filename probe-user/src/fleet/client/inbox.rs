//! The messages of other hosts that wait. One that sends much, or large messages, costs neither the memory of this host nor
//! the messages of others.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::Message;
use futures_util::{Stream, StreamExt};
use tokio::{
    select,
    sync::mpsc,
    task::coop::unconstrained,
    time::{Instant, sleep_until},
};

use crate::fleet::message::MESSAGE_MAX;

/// The most messages of all subscriptions that wait for the thread of the fleet.
pub(super) const WAITING: usize = 256;

/// The most bytes of one subscription that wait for room there. The oldest give way: hosts publish what holds.
const BYTES: usize = 256 << 10;

/// What a message takes beside its content, in bytes.
const OVERHEAD: usize = 256;

/// So many bytes a second of one subscription are taken: 4,000 signs of life, or 32 of the longest messages.
const RATE: f64 = (2 << 20) as f64;

/// What was not used of that in this time may be taken at once.
const BURST: Duration = Duration::from_millis(200);

/// A message of another host. The client's own one holds on to the buffer that it was read into.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) subject: String,
    pub(super) payload: Vec<u8>,
}

impl Received {
    fn size(&self) -> usize {
        OVERHEAD + self.subject.len() + self.payload.len()
    }
}

/// The messages of one subscription that wait.
#[derive(Debug, Default)]
struct Backlog {
    messages: VecDeque<Received>,
    bytes: usize,
}

impl Backlog {
    /// How many messages were dropped for this one, or with it.
    fn push(&mut self, message: &Message) -> u64 {
        // JetStream refuses a message that is too long for the bucket. The server passes it on to subscribers all the same.
        if message.payload.len() > MESSAGE_MAX {
            return 1;
        }
        let received = Received { subject: message.subject.to_string(), payload: message.payload.to_vec() };
        self.bytes += received.size();
        self.messages.push_back(received);
        let mut dropped = 0;
        while self.bytes > BYTES {
            dropped += u64::from(self.pop().is_some());
        }
        dropped
    }

    fn pop(&mut self) -> Option<Received> {
        let oldest = self.messages.pop_front()?;
        self.bytes -= oldest.size();
        Some(oldest)
    }
}

/// Passes the messages of a subscription on, until the inbox is closed. What does not fit is counted in `refused`, and comes
/// again.
pub(super) async fn pass_on(
    mut subscriber: impl Stream<Item = Message> + Unpin,
    inbox: mpsc::Sender<Received>,
    refused: Arc<AtomicU64>,
) {
    let (mut backlog, mut ready) = (Backlog::default(), Instant::now());
    loop {
        let (waits, is_ready) = (!backlog.messages.is_empty(), ready <= Instant::now());
        select! {
            biased;
            // The whole queue of the client at once: its messages can be as long as the server allows.
            message = unconstrained(subscriber.next()) => {
                let Some(message) = message else { return };
                refused.fetch_add(backlog.push(&message), Ordering::Relaxed);
            }
            // Subscriptions take turns here.
            permit = inbox.reserve(), if waits && is_ready => {
                let Ok(permit) = permit else { return };
                if let Some(message) = backlog.pop() {
                    let earliest = Instant::now().checked_sub(BURST).unwrap_or(ready);
                    ready = ready.max(earliest) + Duration::from_secs_f64(message.size() as f64 / RATE);
                    permit.send(message);
                }
            }
            () = sleep_until(ready), if waits && !is_ready => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn message(length: usize) -> Message {
        Message {
            subject: "s".into(),
            reply: None,
            payload: vec![b'x'; length].into(),
            headers: None,
            status: None,
            description: None,
            length,
        }
    }

    #[test]
    fn the_latest_messages_stay_within_the_bytes_of_a_subscription() {
        let mut backlog = Backlog::default();
        let dropped: u64 = (1..=100).map(|number| backlog.push(&message(10_000 + number))).sum();
        assert!(backlog.bytes <= BYTES);
        assert_eq!(backlog.messages.len() as u64 + dropped, 100);
        assert_eq!(backlog.messages.back().unwrap().payload.len(), 10_100);
    }

    #[test]
    fn a_message_that_is_too_long_takes_no_memory() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.push(&message(MESSAGE_MAX + 1)), 1);
        assert_eq!(backlog.bytes, 0);
        assert_eq!(backlog.push(&message(MESSAGE_MAX)), 0);
        backlog.pop().unwrap();
        assert_eq!(backlog.bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscription_with_a_flood_leaves_turns_to_the_others_and_is_counted() {
        let refused = Arc::new(AtomicU64::new(0));
        let (inbox, mut messages) = mpsc::channel(4);
        let flood = stream::iter((0..100_000).map(|_| message(60_000))).chain(stream::pending());
        let quiet = stream::iter([message(1), message(2)]).chain(stream::pending());
        tokio::spawn(pass_on(Box::pin(flood), inbox.clone(), Arc::clone(&refused)));
        tokio::spawn(pass_on(Box::pin(quiet), inbox, Arc::clone(&refused)));
        // The latest four of the flood fit, and there is room for all that is quiet.
        let mut taken = Vec::new();
        for _ in 0..6 {
            taken.push(messages.recv().await.unwrap().payload.len());
        }
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 60_000, 60_000, 60_000, 60_000]);
        assert_eq!(refused.load(Ordering::Relaxed), 99_996);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_bytes_a_second_are_taken_of_one_subscription() {
        let (inbox, mut messages) = mpsc::channel(4);
        // It always has the next message once the last one is taken.
        let endless = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((message(60_000), ()))
        });
        tokio::spawn(pass_on(Box::pin(endless), inbox, Arc::default()));
        let (end, mut bytes) = (Instant::now() + Duration::from_secs(10), 0);
        while let Ok(Some(message)) = tokio::time::timeout_at(end, messages.recv()).await {
            bytes += message.size();
        }
        let (least, most) = (RATE * 8.0, RATE * 11.0);
        assert!((least..most).contains(&(bytes as f64)), "{bytes}");
    }
}
