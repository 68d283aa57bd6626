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
    config::{Config, Identity, Matcher, Service},
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
    name: String,
    matcher: Matcher,
    pidfile: Arc<Mutex<KnownPidfile>>,
    under_way: bool,
    /// Something happened during a search that the search may have missed.
    again: bool,
    due: Timestamp,
    wait: Duration,
}

impl Search {
    pub(super) fn new(config: &Config, reader: ProcReader, outcomes: Outcomes<Outcome>) -> Self {
        let mut search = Self { reader, outcomes, services: HashMap::new() };
        config.services.iter().for_each(|service| search.add(service));
        search
    }

    /// Searches for a service from now on, if something else starts it.
    pub(super) fn add(&mut self, service: &Service) {
        if let Identity::Match(matcher) = &service.identity {
            let target = Target {
                name: service.name.clone(),
                matcher: matcher.clone(),
                pidfile: Arc::default(),
                under_way: false,
                again: false,
                due: Timestamp::default(),
                wait: FIRST_WAIT,
            };
            self.services.insert(service.id, target);
        }
    }

    pub(super) fn remove(&mut self, service: ServiceId) {
        self.services.remove(&service);
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
        // A survey costs something, and most programs that are executed are those of no service.
        if services.is_empty() {
            return;
        }
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
        let (name, matcher) = (target.name.clone(), target.matcher.clone());
        let pidfile = Arc::clone(&target.pidfile);
        let find = move || Outcome::Found(service, find(&survey, &matcher, &pidfile, &name));
        if let Err(error) = self.outcomes.spawn_thread("search", find) {
            tracing::warn!("processes of matched services: cannot be searched for yet: {error}");
            target.under_way = false;
        }
    }

    /// Whether a search is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.services.values().any(|target| target.under_way)
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

fn find(survey: &Survey, matcher: &Matcher, pidfile: &Mutex<KnownPidfile>, name: &str) -> Option<ProcessKey> {
    let mut pidfile = pidfile.lock().unwrap_or_else(PoisonError::into_inner);
    let found = survey.find_main_again(matcher, &mut pidfile.named);
    let problem = if found.is_none() { survey.pidfile_problem(matcher) } else { None };
    if let Some(problem) = pidfile.note(problem) {
        tracing::warn!("{name}: its process cannot be found by its pidfile: {problem}");
    }
    found
}

/// What earlier searches read in a pidfile.
#[derive(Debug, Default)]
struct KnownPidfile {
    named: Option<Named>,
    /// What kept it from naming a process, and whether that is reported.
    problem: Option<(String, bool)>,
}

impl KnownPidfile {
    /// Takes note of what a search found. Returns a problem that is to be reported: once, and not the first time, because
    /// a service that starts writes its file in two steps, and one that stops leaves it for a moment.
    fn note(&mut self, problem: Option<String>) -> Option<String> {
        let again = problem.is_some() && self.problem.as_ref().map(|(known, _)| known) == problem.as_ref();
        if !again {
            self.problem = problem.map(|problem| (problem, false));
            return None;
        }
        let (known, reported) = self.problem.as_mut()?;
        (!std::mem::replace(reported, true)).then(|| known.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::KnownPidfile;

    #[test]
    fn a_pidfiles_problem_is_reported_once_when_it_lasts() {
        let mut pidfile = KnownPidfile::default();
        let mut note = |problem: &str| pidfile.note((!problem.is_empty()).then(|| problem.to_owned()));
        assert_eq!(note("it is empty"), None);
        assert_eq!(note("it is empty").as_deref(), Some("it is empty"));
        assert_eq!(note("it is empty"), None);
        assert_eq!(note("it names pid 7, which does not run"), None);
        assert_eq!(note(""), None);
        assert_eq!(note("it is empty"), None, "it was found in between");
        assert_eq!(note("it is empty").as_deref(), Some("it is empty"));
    }
}
