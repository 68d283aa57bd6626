//! Looks for the main processes of matched services that have none, off the daemon's thread: it means reading
//! through `/proc`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::executor::Outcome;
use crate::{
    clock::Timestamp,
    config::{Config, Identity, Matcher},
    fact::{ProcessKey, ServiceId},
    host::{Named, ProcReader, Survey},
    outcomes::Outcomes,
};

/// A search without a reason is repeated after this long…
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// … and after twice as long each time, up to this: what can be found by exe or port is found by the kernel's
/// word at once.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The searches for matched services.
pub struct Search {
    reader: ProcReader,
    outcomes: Outcomes<Outcome>,
    services: HashMap<ServiceId, Target>,
}

/// How the search for one service stands.
struct Target {
    matcher: Matcher,
    /// What its pidfile has named the last time.
    named: Arc<Mutex<Option<Named>>>,
    under_way: bool,
    /// Something has happened while a search was under way that it may have missed.
    again: bool,
    due: Timestamp,
    wait: Duration,
}

impl Search {
    /// Nothing is target for yet.
    pub(super) fn new(config: &Config, reader: ProcReader, outcomes: Outcomes<Outcome>) -> Self {
        let due = Timestamp::default();
        let mut services = HashMap::new();
        for (id, service) in (0..).map(ServiceId).zip(&config.services) {
            if let Identity::Match(matcher) = &service.identity {
                let matcher = matcher.clone();
                let target = Target {
                    matcher,
                    named: Arc::default(),
                    under_way: false,
                    again: false,
                    due,
                    wait: FIRST_WAIT,
                };
                services.insert(id, target);
            }
        }
        Self { reader, outcomes, services }
    }

    /// The services whose matcher is of `interest`.
    pub(super) fn interested(&self, interest: impl Fn(&Matcher) -> bool) -> Vec<ServiceId> {
        self.services.iter().filter(|(_, target)| interest(&target.matcher)).map(|(id, _)| *id).collect()
    }

    /// The services that are due to be target for again.
    pub(super) fn due(&self, now: Timestamp) -> Vec<ServiceId> {
        self.services.iter().filter(|(_, target)| target.due <= now).map(|(id, _)| *id).collect()
    }

    /// Looks for the main processes of services, all in one look at the host; the answers come as [`Outcome::Found`].
    pub(super) fn start(&mut self, services: &[ServiceId], now: Timestamp) {
        let survey = Arc::new(Survey::new(self.reader.clone()));
        for service in services {
            self.start_one(*service, &survey, now);
        }
    }

    /// Each search has a thread of its own: a process that hangs blocks only the search that reads its files.
    fn start_one(&mut self, service: ServiceId, survey: &Arc<Survey>, now: Timestamp) {
        let Some(target) = self.services.get_mut(&service) else { return };
        if target.under_way {
            target.again = true;
            return;
        }
        target.under_way = true;
        target.due = now.plus(target.wait);
        target.wait = (target.wait * 2).min(LONGEST_WAIT);
        let survey = Arc::clone(survey);
        let (matcher, named) = (target.matcher.clone(), Arc::clone(&target.named));
        self.outcomes.spawn_blocking(move || Outcome::Found(service, find(&survey, &matcher, &named)));
    }

    /// Looks for a service's main process here and now, as the daemon starts.
    pub(super) fn find_now(&self, service: ServiceId, survey: &Survey) -> Option<ProcessKey> {
        let target = self.services.get(&service)?;
        find(survey, &target.matcher, &target.named)
    }

    /// A search has ended; looks again if it may have missed something. True if it `found` what it target for.
    pub(super) fn ended(&mut self, service: ServiceId, found: bool, now: Timestamp) {
        let Some(target) = self.services.get_mut(&service) else { return };
        target.under_way = false;
        let again = std::mem::take(&mut target.again);
        if found {
            target.wait = FIRST_WAIT;
        } else if again {
            self.start(&[service], now);
        }
    }
}

fn find(survey: &Survey, matcher: &Matcher, named: &Mutex<Option<Named>>) -> Option<ProcessKey> {
    survey.find_main_again(matcher, &mut named.lock().unwrap_or_else(PoisonError::into_inner))
}
