//! The listeners of a service that are full.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{clock::Timestamp, fact::AcceptQueue};

/// A burst fills a queue for a moment. It is a fault once the queue has been full for this long…
const LASTS: Duration = Duration::from_secs(10);

/// … and was so in this share of the samples, which come every second, and every two from other network namespaces. A
/// short queue is full whenever a connection comes.
const SHARE: f64 = 0.7;

/// Two observations within this time are of one sample.
const SAMPLE: Duration = Duration::from_millis(900);

/// Samples that are never closer than this are those of every two seconds.
const BETWEEN: Duration = Duration::from_millis(1700);

/// After a longer time without an observation, the queue had room.
const GAP: Duration = Duration::from_secs(5);

/// It is over when no queue was full for this long.
pub const EMPTY_FOR: Duration = Duration::from_secs(10);

/// The most listeners that are told apart.
const LISTENERS_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct FullQueues(BTreeMap<(IpAddr, u16), Full>);

#[derive(Debug)]
struct Full {
    since: Timestamp,
    latest: Timestamp,
    /// When the latest sample was counted.
    counted: Timestamp,
    samples: u32,
    /// The shortest time between two samples that were counted.
    apart: Duration,
}

impl FullQueues {
    /// Takes a queue that is full. Returns since when, if that lasts.
    pub fn take_in(&mut self, queue: &AcceptQueue, now: Timestamp) -> Option<Timestamp> {
        self.0.retain(|_, full| now.since(full.latest) <= GAP);
        if self.0.len() >= LISTENERS_MAX && !self.0.contains_key(&(queue.address, queue.port)) {
            return None;
        }
        let begin = Full { since: now, latest: now, counted: now, samples: 1, apart: GAP };
        let full = self.0.entry((queue.address, queue.port)).or_insert(begin);
        full.latest = now;
        let apart = now.since(full.counted);
        if apart >= SAMPLE {
            full.apart = full.apart.min(apart);
            full.counted = now;
            full.samples = full.samples.saturating_add(1);
        }
        let interval = if full.apart < BETWEEN { 1.0 } else { 2.0 };
        let lasted = now.since(full.since);
        let share = f64::from(full.samples) * interval / lasted.as_secs_f64();
        (lasted >= LASTS && share >= SHARE).then_some(full.since)
    }
}

/// A fault of a full queue, for people.
pub fn words(queue: &AcceptQueue, lasted: Duration) -> String {
    let address = SocketAddr::new(queue.address, queue.port);
    format!(
        "it accepts too few of its connections on {address}: {} wait, its backlog is {}, full for {} s",
        queue.waiting,
        queue.backlog,
        lasted.as_secs()
    )
}
