//! What programs other than hostprobe asked for of a service, and how often they had it restarted.

use std::{collections::VecDeque, time::Duration};

use crate::{
    clock::Timestamp,
    fact::{Actor, OutsideRequest, RequestVerb},
};

/// So many restarts by the same program within this time are an incident. A deployment makes one or two, a person who tries
/// something out works at a terminal, and a script that is wrong goes on for ever.
pub const RESTARTS: usize = 4;
pub const WINDOW: Duration = Duration::from_secs(600);

/// How long after its program was executed a request may show: systemd answers in milliseconds, and a busy host may take
/// seconds until the daemon reads the record.
const SHOWS_WITHIN: Duration = Duration::from_secs(15);

/// The latest requests that are kept, and the restarts.
const REQUESTS_MAX: usize = 8;
const RESTARTS_MAX: usize = 64;

/// A stop on request that no start has followed yet.
#[derive(Debug)]
pub struct OutsideStop {
    /// Who asked for it, where that is known.
    pub actor: Option<Actor>,
}

#[derive(Debug, Default)]
pub struct OutsideRequests {
    latest: VecDeque<OutsideRequest>,
    /// The service may be healthy again before its new main process is known, and its stop is forgotten then.
    stop: Option<OutsideStop>,
    /// When it was restarted, and the fingerprint of who did it.
    restarts: VecDeque<(Timestamp, u64)>,
}

impl OutsideRequests {
    pub fn add(&mut self, request: OutsideRequest) {
        if self.latest.len() == REQUESTS_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(request);
    }

    /// Takes the latest request if it may show at `now`. The ones before it have shown, or were refused.
    pub fn take(&mut self, now: Timestamp) -> Option<OutsideRequest> {
        let latest = self.latest.drain(..).next_back()?;
        (now.since(latest.actor.at) <= SHOWS_WITHIN).then_some(latest)
    }

    /// What the latest request asks for, if it may show at `now`.
    pub fn latest_verb(&self, now: Timestamp) -> Option<RequestVerb> {
        let latest = self.latest.back().filter(|it| now.since(it.actor.at) <= SHOWS_WITHIN);
        latest.map(|request| request.verb)
    }

    pub fn stopped(&mut self, actor: Option<Actor>) {
        self.stop = Some(OutsideStop { actor });
    }

    /// The same once more, if a start has followed the first one.
    pub fn stopped_again(&mut self, actor: Option<&Actor>) {
        self.stop.get_or_insert_with(|| OutsideStop { actor: actor.cloned() });
    }

    /// Takes the stop that the present start follows.
    pub fn take_stop(&mut self) -> Option<OutsideStop> {
        self.stop.take()
    }

    pub fn restarted(&mut self, now: Timestamp, by: u64) {
        if self.restarts.len() == RESTARTS_MAX {
            self.restarts.pop_front();
        }
        self.restarts.push_back((now, by));
    }

    /// How often it was restarted by the same within the window.
    pub fn restarts_by(&self, by: u64, now: Timestamp) -> usize {
        self.restarts.iter().filter(|(at, other)| *other == by && now.since(*at) <= WINDOW).count()
    }
}
