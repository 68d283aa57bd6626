//! Searches for the missing main processes of matched services, off the daemon's thread, because it reads all of
//! `/proc`.

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

/// A search without a new reason is repeated after this long…
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// … and then after twice the last wait, up to this. The sensors report matches by exe or port at once.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub struct Search {
    reader: ProcReader,
    outcomes: Outcomes<Outcome>,
    services: HashMap<ServiceId, Target>,
}

/// The state of the search for one service.
struct Target {
    matcher: Matcher,
    /// The last content of its pidfile.
    named: Arc<Mutex<Option<Named>>>,
    under_way: bool,
    /// Something happened during a search that the search may have missed.
    again: bool,
    due: Timestamp,
    wait: Duration,
}

impl Search {
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

    /// The services whose matcher meets `interest`.
    pub(super) fn interested(&self, interest: impl Fn(&Matcher) -> bool) -> Vec<ServiceId> {
        self.services.iter().filter(|(_, target)| interest(&target.matcher)).map(|(id, _)| *id).collect()
    }

    /// The services that are due for another search.
    pub(super) fn due(&self, now: Timestamp) -> Vec<ServiceId> {
        self.services.iter().filter(|(_, target)| target.due <= now).map(|(id, _)| *id).collect()
    }

    /// Searches for the main processes of services, all in one survey of the host. The answers come as
    /// [`Outcome::Found`].
    pub(super) fn start(&mut self, services: &[ServiceId], now: Timestamp) {
        let survey = Arc::new(Survey::new(self.reader.clone()));
        for service in services {
            self.start_one(*service, &survey, now);
        }
    }

    /// Each search has its own thread: a hung process blocks only the search that reads its files.
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
        let find = move || Outcome::Found(service, find(&survey, &matcher, &named));
        if let Err(error) = self.outcomes.spawn_thread("search", find) {
            tracing::warn!("processes of matched services: cannot be searched for yet: {error}");
            target.under_way = false;
        }
    }

    /// How many searches are under way.
    pub(super) fn under_way(&self) -> usize {
        self.services.values().filter(|target| target.under_way).count()
    }

    /// A search has ended. Starts another one if this one may have missed the process. `found` is true after a
    /// success.
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
