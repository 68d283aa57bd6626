//! Failures of the connections that a service opens: to other hosts, and to what hostprobe does not watch on this one.

use std::{net::SocketAddr, time::Duration};

use crate::{clock::Timestamp, fact::EventId};

/// Evidence against the network counts for this long. Other evidence counts if it began so little before the probes
/// failed.
const LASTS: Duration = Duration::from_secs(60);

/// Evidence against a server of this host counts for this long: a proxy checks its servers at its own pace, and takes no
/// client to one that has failed.
const BACKEND_LASTS: Duration = Duration::from_secs(300);

/// So many retransmits are evidence. A single one is common on any network.
const MANY_RETRANSMITS: u64 = 2;

/// The most addresses that are remembered. A service has few that it cannot do without.
const REMOTES_MAX: usize = 16;

/// What a service cannot reach, the latest trouble last.
#[derive(Debug, Default)]
pub struct OutboundTrouble(Vec<Trouble>);

/// The trouble with one address.
#[derive(Debug)]
pub struct Trouble {
    remote: SocketAddr,
    place: Place,
    first: Timestamp,
    last: Timestamp,
    retransmits: u64,
    event: EventId,
    words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Another host, or another network namespace.
    OtherHost,
    /// This host.
    ThisHost,
}

impl Place {
    const fn lasts(self) -> Duration {
        match self {
            Self::OtherHost => LASTS,
            Self::ThisHost => BACKEND_LASTS,
        }
    }
}

impl Trouble {
    /// The event that shows it.
    pub fn event(&self) -> EventId {
        self.event
    }

    pub fn words(&self) -> &str {
        &self.words
    }

    /// Whether it began at about the time since when the probes fail, or later.
    fn began_with(&self, wrong_since: Timestamp) -> bool {
        self.first.plus(LASTS) >= wrong_since
    }
}

impl OutboundTrouble {
    /// A connection failed, or segments to a remote address had to be sent again.
    pub fn note(
        &mut self,
        (remote, place): (SocketAddr, Place),
        (at, event): (Timestamp, EventId),
        retransmits: Option<u64>,
        words: String,
    ) {
        let known = self.0.iter().position(|trouble| (trouble.remote, trouble.place) == (remote, place));
        let before = known.map(|known| self.0.remove(known));
        let before = before.filter(|before| at.since(before.last) < 2 * place.lasts());
        let (first, known) = before.map_or((at, 0), |before| (before.first, before.retransmits));
        let retransmits = retransmits.map_or(MANY_RETRANSMITS, |count| known.saturating_add(count));
        if self.0.len() == REMOTES_MAX {
            self.0.remove(0);
        }
        self.0.push(Trouble { remote, place, first, last: at, retransmits, event, words });
    }

    /// The service is healthy again, which it was not since then. What failed with it is over as well: if it fails again, that is
    /// another trouble.
    pub fn recovered(&mut self, wrong_since: Timestamp) {
        self.0.retain(|trouble| !trouble.began_with(wrong_since));
    }

    /// The latest trouble that began at about the time since when the probes fail. A service does not need a connection
    /// that failed for long while the service was healthy.
    pub fn explains(&self, place: Place, wrong_since: Timestamp, now: Timestamp) -> Option<&Trouble> {
        self.0.iter().rev().filter(|trouble| trouble.place == place).find(|trouble| {
            let fresh = now.since(trouble.last) < place.lasts();
            fresh && trouble.began_with(wrong_since) && trouble.retransmits >= MANY_RETRANSMITS
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn refused(trouble: &mut OutboundTrouble, port: u16, seconds: u64) {
        let remote = ([127, 0, 0, 1], port).into();
        trouble.note((remote, Place::ThisHost), (at(seconds), EventId(seconds)), None, format!("{port}"));
    }

    #[test]
    fn a_server_that_fails_with_the_probes_explains_them_and_one_that_failed_for_long_does_not() {
        let mut trouble = OutboundTrouble::default();
        for seconds in (0..600).step_by(10) {
            refused(&mut trouble, 9001, seconds);
        }
        let explains = |trouble: &OutboundTrouble, wrong_since, now| {
            trouble.explains(Place::ThisHost, at(wrong_since), at(now)).map(|it| it.words().to_owned())
        };
        assert_eq!(explains(&trouble, 600, 610), None, "it was healthy without that server");
        refused(&mut trouble, 9002, 601);
        refused(&mut trouble, 9001, 602);
        assert_eq!(explains(&trouble, 600, 610).as_deref(), Some("9002"));
        assert_eq!(explains(&trouble, 662, 670), None, "it began long before the probes failed");
        assert_eq!(
            explains(&trouble, 600, 900).as_deref(),
            Some("9002"),
            "a proxy checks it at its own pace"
        );
        assert_eq!(explains(&trouble, 600, 901), None, "nothing has been heard of it for long");
        assert!(trouble.explains(Place::OtherHost, at(600), at(610)).is_none());
    }

    #[test]
    fn a_server_that_fails_with_the_service_again_explains_it_again() {
        let mut trouble = OutboundTrouble::default();
        refused(&mut trouble, 9001, 5);
        for seconds in (100..160).step_by(10) {
            refused(&mut trouble, 9002, seconds);
        }
        trouble.recovered(at(105));
        for seconds in (400..460).step_by(10) {
            refused(&mut trouble, 9002, seconds);
        }
        let explains = |wrong_since, now| trouble.explains(Place::ThisHost, at(wrong_since), at(now));
        assert_eq!(explains(405, 425).unwrap().words(), "9002");
        assert!(explains(470, 475).is_none(), "it was healthy without that server");
        assert_eq!(trouble.0.len(), 2, "what the service does without is known still");
    }

    #[test]
    fn the_latest_addresses_are_remembered() {
        let mut trouble = OutboundTrouble::default();
        for port in 1..=100 {
            refused(&mut trouble, port, u64::from(port));
        }
        assert_eq!(trouble.0.len(), REMOTES_MAX);
        assert_eq!(trouble.explains(Place::ThisHost, at(0), at(101)).unwrap().words(), "100");
    }
}
