//! `/events`: the event stream as it grows, as server-sent events.
//!
//! A client that comes back with the id of the last event that it got misses nothing, if it is back soon. If it missed
//! some, the stream says so in an event of the type `missed`, with their count if that is known.

use std::{convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    connections::{CONNECTIONS_MAX, Endless},
    route::{Answer, Method, Parameter, Route},
    shown::Shown,
};
use crate::emit::{Batch, Watcher};

/// The most watchers at once. The other connections are for questions.
const WATCHERS: usize = CONNECTIONS_MAX / 2;

/// A quiet stream has a comment as often as this, so that both ends notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A browser whose stream was cut tries again after so many milliseconds. Its own rest is three seconds or more.
const RETRY: u32 = 1000;

/// The header of a client that comes back.
const LAST_EVENT: &str = "last-event-id";

#[derive(Clone)]
struct Live {
    shown: Shown,
    places: Arc<Semaphore>,
}

pub(super) fn route(shown: Shown) -> Route {
    let live = Live { shown, places: Arc::new(Semaphore::new(WATCHERS)) };
    Route {
        path: "/events",
        method: Method::Get,
        id: "events",
        summary: "The event stream as it grows, as server-sent events; it has no end.",
        is_open: false,
        parameters: &[Parameter::LastEventId],
        answers: vec![
            Answer::of("text/event-stream", "The events. `hostprobe schema events` describes the objects."),
            Answer::text(503, "As many clients as are allowed watch already."),
        ],
        handler: get(events).with_state(live),
    }
}

async fn events(State(Live { shown, places }): State<Live>, headers: HeaderMap) -> Response {
    let Ok(place) = places.try_acquire_owned() else {
        let why = "as many clients as are allowed watch the events already; ask again later\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], why).into_response();
    };
    let run = shown.origin.agent().ephemeral_id;
    let last = headers.get(LAST_EVENT).and_then(|id| id.to_str().ok());
    let after = last.and_then(|id| sequence(id, &run));
    let watched = Watched {
        watcher: shown.tail.watch(after),
        run,
        // After another run of the daemon, or an id that is none of its ids.
        greeting: greeting(last.is_some() && after.is_none()),
        _place: place,
    };
    let chunks = stream::unfold(watched, |mut watched| async move {
        let chunk = watched.next().await;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), watched))
    });
    let mut response = Body::from_stream(chunks).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    response.extensions_mut().insert(Endless);
    response
}

struct Watched {
    watcher: Watcher,
    /// The run of the daemon, which is a part of the ids of its events.
    run: String,
    /// What the stream begins with, so that the client sees at once that it is open.
    greeting: String,
    _place: OwnedSemaphorePermit,
}

impl Watched {
    async fn next(&mut self) -> String {
        if !self.greeting.is_empty() {
            return std::mem::take(&mut self.greeting);
        }
        match timeout(KEEP_ALIVE, self.watcher.next()).await {
            Ok(batch) => text(&batch, &self.run),
            Err(_) => ":\n\n".to_owned(),
        }
    }
}

/// The sequence in the id of an event of this run.
pub(super) fn sequence(id: &str, run: &str) -> Option<u64> {
    id.strip_prefix(run)?.strip_prefix('-')?.parse().ok()
}

fn greeting(has_missed: bool) -> String {
    let missed = if has_missed { missed(None) } else { String::new() };
    format!("retry: {RETRY}\n\n{missed}")
}

fn missed(count: Option<u64>) -> String {
    let count = count.map_or_else(String::new, |count| format!("\"count\":{count}"));
    format!("event: missed\ndata: {{{count}}}\n\n")
}

fn text(batch: &Batch, run: &str) -> String {
    let mut text = if batch.missed > 0 { missed(Some(batch.missed)) } else { String::new() };
    let first = batch.last + 1 - batch.lines.len() as u64;
    for (sequence, line) in (first..).zip(&batch.lines) {
        // A line is UTF-8 and has one end.
        let json = String::from_utf8_lossy(line);
        let _ = write!(text, "id: {run}-{sequence}\ndata: {}\n\n", json.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_id_and_what_was_missed_comes_first() {
        let lines = vec![b"{\"a\":1}\n".as_slice().into(), b"{}\n".as_slice().into()];
        let batch = Batch { missed: 2, lines, last: 9 };
        assert_eq!(
            text(&batch, "1a2b3c4d"),
            "event: missed\ndata: {\"count\":2}\n\nid: 1a2b3c4d-8\ndata: {\"a\":1}\n\nid: 1a2b3c4d-9\ndata: {}\n\n"
        );
    }

    #[test]
    fn only_an_id_of_this_run_says_where_to_go_on() {
        assert_eq!(sequence("1a2b3c4d-17", "1a2b3c4d"), Some(17));
        for id in ["00000000-17", "17", "1a2b3c4d-", "1a2b3c4d-x", "1a2b3c4d17", ""] {
            assert_eq!(sequence(id, "1a2b3c4d"), None, "{id}");
        }
    }
}
