//! Looks for the main processes of matched services that have none, off the daemon's thread: it means reading
//! through `/proc`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, task::spawn_blocking};

use super::executor::Outcome;
use crate::{
    clock::Timestamp,
    config::{Config, Identity, Matcher},
    fact::{ProcessKey, ServiceId},
    host::{Named, ProcReader, Survey},
};

/// A search without a reason is repeated after this long…
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// … and after twice as long each time, up to this: what can be found by exe or port is found by the kernel's
/// word at once.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The searches for matched services.
pub struct Search {
    reader: ProcReader,
    outcomes: mpsc::Sender<Outcome>,
    services: HashMap<ServiceId, Looked>,
}

/// How the search for one service stands.
struct Looked {
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
    /// Nothing is looked for yet.
    pub(super) fn new(config: &Config, reader: ProcReader, outcomes: mpsc::Sender<Outcome>) -> Self {
        let due = Timestamp::default();
        let mut services = HashMap::new();
        for (id, service) in (0..).map(ServiceId).zip(&config.services) {
            if let Identity::Match(matcher) = &service.identity {
                let matcher = matcher.clone();
                let looked = Looked {
                    matcher,
                    named: Arc::default(),
                    under_way: false,
                    again: false,
                    due,
                    wait: FIRST_WAIT,
                };
                services.insert(id, looked);
            }
        }
        Self { reader, outcomes, services }
    }

    /// The services whose matcher is of `interest`.
    pub(super) fn whose(&self, interest: impl Fn(&Matcher) -> bool) -> Vec<ServiceId> {
        self.services.iter().filter(|(_, looked)| interest(&looked.matcher)).map(|(id, _)| *id).collect()
    }

    /// The services that are due to be looked for again.
    pub(super) fn due(&self, now: Timestamp) -> Vec<ServiceId> {
        self.services.iter().filter(|(_, looked)| looked.due <= now).map(|(id, _)| *id).collect()
    }

    /// Looks for the main processes of services, all in one look at the host; the answers come as [`Outcome::Found`].
    pub(super) fn look(&mut self, services: &[ServiceId], now: Timestamp) {
        let survey = Arc::new(Survey::new(self.reader.clone()));
        for service in services {
            self.look_for(*service, &survey, now);
        }
    }

    /// Each on a thread of its own: a process that hangs may hold up who looks for it, and nobody else.
    fn look_for(&mut self, service: ServiceId, survey: &Arc<Survey>, now: Timestamp) {
        let Some(looked) = self.services.get_mut(&service) else { return };
        if looked.under_way {
            looked.again = true;
            return;
        }
        looked.under_way = true;
        looked.due = now.plus(looked.wait);
        looked.wait = (looked.wait * 2).min(LONGEST_WAIT);
        let (survey, outcomes) = (Arc::clone(survey), self.outcomes.clone());
        let (matcher, named) = (looked.matcher.clone(), Arc::clone(&looked.named));
        spawn_blocking(move || {
            let found = find(&survey, &matcher, &named);
            // Nobody listens any more once the daemon is ending.
            let _ = outcomes.blocking_send(Outcome::Found(service, found));
        });
    }

    /// Looks for a service's main process here and now, as the daemon starts.
    pub(super) fn look_at_once(&self, service: ServiceId, survey: &Survey) -> Option<ProcessKey> {
        let looked = self.services.get(&service)?;
        find(survey, &looked.matcher, &looked.named)
    }

    /// A search has ended; looks again if it may have missed something. True if it `found` what it looked for.
    pub(super) fn ended(&mut self, service: ServiceId, found: bool, now: Timestamp) {
        let Some(looked) = self.services.get_mut(&service) else { return };
        looked.under_way = false;
        let again = std::mem::take(&mut looked.again);
        if found {
            looked.wait = FIRST_WAIT;
        } else if again {
            self.look(&[service], now);
        }
    }
}

fn find(survey: &Survey, matcher: &Matcher, named: &Mutex<Option<Named>>) -> Option<ProcessKey> {
    survey.find_main_anew(matcher, &mut named.lock().unwrap_or_else(PoisonError::into_inner))
}
