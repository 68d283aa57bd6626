//! Which hosts hear whether all others live. If each host heard each other, messages would grow with the square of the
//! number of hosts.

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use futures_util::StreamExt;

use super::{
    connect::foreign,
    message::{BEAT, SILENT},
    subject::{BUCKET, Key, all_alive},
};

/// So many hosts hear all others. They are lost at the same time if each of them is: one partition in 256 that halves a
/// fleet does that, and what is left names others within a minute.
const WATCHERS: usize = 8;

/// How often a host looks whether it is one of them, at least; hosts do so at different times.
const LOOK: Duration = Duration::from_secs(60);
const SPREAD: Duration = Duration::from_secs(20);

/// Whether this host is one of them.
#[derive(Debug, Default)]
pub(super) struct Role {
    /// Since when it is.
    since: Option<Instant>,
    /// Whether it has ever looked.
    is_known: bool,
    is_looking: bool,
    due: Option<Instant>,
}

impl Role {
    /// Whether it is time to look. A host waits until all have published that they live, after a start of NATS: each would find
    /// itself among the first otherwise.
    pub(super) fn is_to_look(&mut self, connected: Option<Duration>) -> bool {
        let is_due = self.due.is_none_or(|due| due <= Instant::now());
        let is_time = is_due && !self.is_looking && connected.is_some_and(|connected| connected >= SILENT);
        self.is_looking |= is_time;
        is_time
    }

    /// A look has found this. Whether anything has changed. A host that cannot know hears all: a silence is heard then, for more
    /// messages. What a host has reported it has to hear to the end.
    pub(super) fn on_looked(
        &mut self,
        is_one: Result<bool, String>,
        me: &str,
        reports_silence: bool,
    ) -> bool {
        let before = self.hears_all();
        let is_one = is_one.unwrap_or(before || !self.is_known) || before && reports_silence;
        if is_one != before {
            self.since = is_one.then(Instant::now);
        }
        (self.is_known, self.is_looking, self.due) = (true, false, Some(Instant::now() + next_look(me)));
        is_one != before
    }

    pub(super) fn hears_all(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it has heard each host that lives, so that it can miss one.
    pub(super) fn has_heard_all(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= BEAT + BEAT / 2)
    }
}

/// The order of hosts: the first ones hear all others, and the first of these reports. It is the same on all hosts and in
/// all versions, and does not follow the order of names, which stand for racks and zones.
pub(super) fn rank(host: &str) -> (u64, &str) {
    // FNV-1a, whose upper bits hardly differ between names that differ at their end, and so the finalizer of MurmurHash3.
    let hash = host.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash ^ hash >> 33, host)
}

/// When a host looks again.
pub(super) fn next_look(host: &str) -> Duration {
    LOOK + SPREAD.mul_f64((rank(host).0 >> 48) as f64 / f64::from(1 << 16))
}

/// Whether this host is one that hears all others, by the names that the bucket has. The error says why that is unknown.
pub(super) async fn is_one(jetstream: &Context, me: &str) -> Result<bool, String> {
    let failed =
        |error: String| format!("the hosts in the bucket {BUCKET} cannot be listed: {}", foreign(&error));
    let stream = jetstream.get_stream_no_info(format!("KV_{BUCKET}")).await;
    let stream = stream.map_err(|error| failed(error.to_string()))?;
    let names = stream.info_with_subjects(all_alive()).await;
    let mut names = names.map_err(|error| failed(error.to_string()))?;
    let mut before = 0;
    while let Some(name) = names.next().await {
        let (subject, _) = name.map_err(|error| failed(error.to_string()))?;
        before += usize::from(Key::read(&subject).is_some_and(|key| rank(key.host()) < rank(me)));
    }
    Ok(before < WATCHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_hosts_does_not_follow_their_names() {
        let mut hosts: Vec<String> = (0..1000).map(|number| format!("host-{number:04}")).collect();
        hosts.sort_unstable_by(|a, b| rank(a).cmp(&rank(b)));
        let first_half = hosts[..8].iter().filter(|host| host.as_str() < "host-0500").count();
        assert!((1..=7).contains(&first_half), "{:?}", &hosts[..8]);
        let neighbours = hosts[..8].windows(2).filter(|pair| pair[0][..8] == pair[1][..8]).count();
        assert!(neighbours <= 2, "{:?}", &hosts[..8]);
    }

    #[test]
    fn hosts_look_at_different_times() {
        assert_ne!(next_look("a"), next_look("b"));
        assert!(next_look("a") >= LOOK && next_look("a") < LOOK + SPREAD);
    }
}
