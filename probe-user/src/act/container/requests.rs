//! What an engine was asked for, by its stream of events.
//!
//! Docker announces a stop before its signal: `kill` with the number of the signal, then `die` and `stop`. Podman writes
//! `kill`, `restart` and `remove`, and leaves out `stop` where its cleanup is faster; there, the state `stopping`, the
//! command of the operator and the sender of the signal tell.

use std::collections::HashMap;

use super::model::{Event, TEXT_MAX, bounded};
use crate::{clock::Timestamp, fact::COMPOSE_PROJECT};

/// The most containers of which requests are known. A container that comes and goes has two or three.
const KNOWN_MAX: usize = 4096;

/// Signals that ask a process to end: SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const POLITE: [&str; 8] = ["1", "2", "3", "15", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"];

/// Something that the engine was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) at: Timestamp,
    pub(super) what: Asked,
    /// The project of compose that the container belongs to.
    pub(super) project: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Stop,
    Restart,
    /// A signal that does not ask politely.
    Kill,
    Remove,
}

/// The latest requests about each container, by its name.
#[derive(Debug, Default)]
pub(super) struct Requests {
    known: HashMap<String, Request>,
    /// When a kill was requested last, which a stop may follow.
    kills: HashMap<String, Timestamp>,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Concerned {
    pub(super) name: String,
    pub(super) id: String,
}

impl Requests {
    /// Takes in a line of the stream. Returns the container that it is about, if it may have changed. An error is a line
    /// that is no event.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<Option<(Concerned, Timestamp)>, serde_json::Error> {
        let event: Event = serde_json::from_slice(line)?;
        if !matches!(event.kind.as_str(), "" | "container") {
            return Ok(None);
        }
        let attribute = |name: &str| event.actor.attributes.get(name).map(|it| bounded(it, TEXT_MAX));
        let Some(name) = attribute("name").filter(|name| !name.is_empty()) else { return Ok(None) };
        let wall = jiff::Timestamp::from_nanosecond(i128::from(event.time_nanos)).unwrap_or_default();
        let at = Timestamp::from_wall(wall);
        let action = event.action.split(':').next().unwrap_or_default();
        let what = match action {
            "stop" => Some(Asked::Stop),
            "restart" => Some(Asked::Restart),
            "remove" | "destroy" => Some(Asked::Remove),
            "kill" => match attribute("signal") {
                Some(signal) if POLITE.contains(&signal.as_str()) => Some(Asked::Stop),
                Some(_) | None => Some(Asked::Kill),
            },
            // The commands in a container, its health checks among them, say nothing of the container.
            "exec_create" | "exec_start" | "exec_die" | "exec_died" | "exec_detach" | "top" | "attach"
            | "resize" | "export" | "commit" | "archive-path" | "extract-to-dir" | "mount" | "unmount" => {
                return Ok(None);
            }
            _ => None,
        };
        if let Some(what) = what {
            self.add(&name, Request { at, what, project: attribute(COMPOSE_PROJECT) });
        }
        Ok(Some((Concerned { name, id: bounded(&event.actor.id, 64) }, at)))
    }

    /// The engine says that it is stopping a container.
    pub(super) fn note_stop(&mut self, name: &str, project: Option<String>) {
        self.add(name, Request { at: Timestamp::now(), what: Asked::Stop, project });
    }

    fn add(&mut self, name: &str, request: Request) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(name) {
            // Old requests explain nothing any more.
            self.known.clear();
            self.kills.clear();
        }
        if request.what == Asked::Kill {
            self.kills.insert(name.to_owned(), request.at);
            // SIGKILL ends a stop that takes too long.
            if self.known.get(name).is_some_and(|before| before.what == Asked::Stop) {
                return;
            }
        }
        self.known.insert(name.to_owned(), request);
    }

    /// The latest request about a container that is not older than the present run.
    pub(super) fn since(&self, name: &str, started: Timestamp) -> Option<&Request> {
        self.known.get(name).filter(|request| request.at >= started)
    }

    /// Whether a kill was requested since then.
    pub(super) fn was_killed(&self, name: &str, started: Timestamp) -> bool {
        self.kills.get(name).is_some_and(|at| *at >= started)
    }
}

impl Request {
    /// What ended the container, as part of a sentence; None for a signal that is no request to end.
    pub(super) fn words(&self, engine: &str) -> Option<String> {
        let what = match self.what {
            Asked::Stop => "asked to stop it",
            Asked::Restart => "asked to restart it",
            Asked::Remove => "asked to remove it",
            Asked::Kill => return None,
        };
        let project = self.project.as_ref().map(|it| format!(" (compose project {it})")).unwrap_or_default();
        Some(format!("{engine} was {what}{project}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, attributes: &str, at: i64) -> String {
        format!(
            r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"ab","Attributes":{{"name":"web"{attributes}}}}},"timeNano":{at}}}"#
        )
    }

    fn now() -> i64 {
        i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
    }

    #[test]
    fn a_stop_is_known_by_its_polite_signal_before_it_is_announced() {
        let mut requests = Requests::default();
        let before = Timestamp::now();
        let polite = event("kill", r#","signal":"15","com.docker.compose.project":"shop""#, now());
        assert!(requests.take(polite.as_bytes()).unwrap().is_some());
        // The time limit of the stop is over.
        requests.take(event("kill", r#","signal":"9""#, now()).as_bytes()).unwrap();
        let request = requests.since("web", before).unwrap();
        assert_eq!(
            request.words("Docker").as_deref(),
            Some("Docker was asked to stop it (compose project shop)")
        );
        assert_eq!(requests.since("web", Timestamp::now().plus(std::time::Duration::from_secs(1))), None);
    }

    #[test]
    fn a_kill_alone_is_no_request_to_stop() {
        let mut requests = Requests::default();
        let before = Timestamp::now();
        requests.take(event("kill", "", now()).as_bytes()).unwrap();
        assert!(requests.was_killed("web", before));
        assert_eq!(requests.since("web", before).unwrap().words("Podman"), None);
    }

    #[test]
    fn what_is_no_event_of_a_container_changes_nothing() {
        let mut requests = Requests::default();
        for line in [
            r#"{"Type":"image","Action":"remove","Actor":{"Attributes":{"name":"web"}}}"#,
            r#"{"Type":"container","Action":"exec_died","Actor":{"Attributes":{"name":"web"}}}"#,
            r#"{"Type":"container","Action":"stop","Actor":{"Attributes":null}}"#,
            "{}",
        ] {
            assert_eq!(requests.take(line.as_bytes()).unwrap(), None, "{line}");
        }
        for line in ["", "garbage", "[1]", r#"{"timeNano":"x"}"#] {
            assert!(requests.take(line.as_bytes()).is_err(), "{line}");
        }
        assert!(requests.known.is_empty());
    }

    #[test]
    fn requests_about_ever_new_containers_do_not_pile_up() {
        let mut requests = Requests::default();
        for number in 0..3 * KNOWN_MAX {
            let line = event("stop", "", now()).replace("\"web\"", &format!("\"web{number}\""));
            requests.take(line.as_bytes()).unwrap();
        }
        assert!(requests.known.len() <= KNOWN_MAX);
    }
}
