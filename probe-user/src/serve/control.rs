//! The control socket: a request is one line of JSON, and so is its answer.
//!
//! Only root, the daemon's own user and one group are answered. It shows what the pipeline has published already: a
//! question costs the making of its answer, which is bounded, and no read of the host. The daemon's loop answers
//! commands and requests to reload.

mod lines;
mod operation;
mod peer;
mod socket;
mod watch;

use std::{io, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use self::{
    lines::{PATIENCE, line, write},
    peer::Peer,
};
pub use self::{
    operation::{
        AlertTestRequest, AlertTests, DrillAnswer, DrillPlan, DrillRequest, Drills, MAX_REASON, Operation,
        Operations, OperatorRequest, Refusal, RefusalKind, ReloadRequest, Target,
    },
    socket::{ControlError, ControlSocket, open},
    watch::Streamed,
};

use super::{shown::Shown, status::Status, turns::Turns};
use crate::{
    fact::{AlertTestOutcome, DrillFault, DrillReport, Reload},
    probe::heartbeat::Caller,
    store::{
        history::{Explanation, Listed, NotOne},
        report::Report,
    },
};

/// The most clients that are served at once; more wait.
const CLIENTS: usize = 8;

/// The longest request, in bytes.
const MAX_REQUEST: u64 = 4096;

/// The longest wait for a client's question while all places are taken. A command line asks at once.
const CROWDED: Duration = Duration::from_millis(200);

/// The longest wait for the outcome of a command. A service may take longer to stop.
const OUTCOME: Duration = Duration::from_secs(30);

/// The shortest rest between two commands, of all clients together. Each makes an event and a write to the disk, so that a
/// client that gives commands without end would fill the event files.
const COMMAND_REST: Duration = Duration::from_millis(100);

/// The wait before the next accept after a failed one.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Status,
    Incidents {
        /// Those that were open less than so many seconds ago.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<u64>,
        /// Those of this service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// The events as they come. The answer is a line of [`Streamed`] for each, until the client goes away.
    Events {
        /// Those after the event with this id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    Explain {
        /// Its id, or the number at the end of it.
        incident: String,
    },
    Report {
        /// Of the last so many seconds.
        within: u64,
        /// Of this service alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    Reload {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Operate(Operation),
    /// Send a test message, and its end, to receivers of alerts.
    AlertTest {
        /// To this one alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receiver: Option<String>,
    },
    /// A job reports in.
    Beat {
        heartbeat: String,
    },
    /// Cause a fault, and wait for what comes of it.
    Drill {
        service: String,
        fault: DrillFault,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The pid of the main process that the operator agreed to do it to; without it, only say what would be done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agreed: Option<u32>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Box<Status>),
    Incidents(Vec<Listed>),
    Explanation(Box<Explanation>),
    Report(Box<Report>),
    Reload(Reload),
    DrillPlan(DrillPlan),
    Drill(Box<DrillReport>),
    AlertTest(Vec<AlertTestOutcome>),
    /// To [`Request::Operate`] and [`Request::Beat`]: the outcome in a sentence.
    Done(String),
    Error(Refusal),
}

/// Where requests for a reload go.
pub type Reloads = mpsc::Sender<ReloadRequest>;

/// The ways to the daemon's loop.
#[derive(Clone, Debug)]
pub struct Requests {
    pub reloads: Reloads,
    pub operations: Operations,
    pub drills: Drills,
    pub alert_tests: AlertTests,
}

/// What the answers to all clients are made from.
struct Server {
    places: Arc<Semaphore>,
    shown: Shown,
    requests: Requests,
    /// The group whose members are answered.
    group: Option<u32>,
    /// Clients that watch the events give their place to others, and have these.
    watchers: Arc<Semaphore>,
    questions: Turns,
    /// Reports wait for the file, and nothing else waits for them.
    reports: Turns,
    commands: Turns,
}

/// Answers for ever.
pub async fn serve(socket: ControlSocket, shown: Shown, requests: Requests) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    let server = Arc::new(Server {
        places,
        shown,
        requests,
        group: socket.group,
        watchers: Arc::new(Semaphore::new(CLIENTS)),
        questions: Turns::default(),
        reports: Turns::default(),
        commands: Turns::with_rests_of(COMMAND_REST),
    });
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&server.places).acquire_owned().await else { return };
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    if let Err(error) = server.attend(stream, place).await {
                        tracing::debug!(%error, "a client of the control socket went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control socket: accepting a connection failed; trying again in a second");
                sleep(PAUSE).await;
            }
        }
    }
}

impl Server {
    /// Serves one client until it goes away or takes too long.
    async fn attend(&self, stream: UnixStream, place: OwnedSemaphorePermit) -> io::Result<()> {
        let peer = Peer::of(&stream)?;
        let allowed = peer.is_admitted(self.group);
        let (from, mut to) = stream.into_split();
        let mut from = BufReader::new(from);
        loop {
            let mut question = Vec::new();
            let mut bounded = (&mut from).take(MAX_REQUEST);
            let got = tokio::select! {
                got = bounded.read_until(b'\n', &mut question) => got?,
                () = self.patience() => 0,
            };
            if got == 0 {
                return Ok(());
            }
            let whole = question.last() == Some(&b'\n');
            let answer = match serde_json::from_slice::<Request>(&question) {
                _ if !allowed => refusal(
                    RefusalKind::NotPermitted,
                    "only root, the daemon's own user and the group of [control] may ask",
                ),
                _ if !whole => {
                    refusal(RefusalKind::BadRequest, "a request is one line of at most 4096 bytes")
                }
                Err(error) => refusal(RefusalKind::BadRequest, &error.to_string()),
                Ok(Request::Events { after }) => {
                    let Ok(_watches) = Arc::clone(&self.watchers).try_acquire_owned() else {
                        let why = "as many clients as are allowed watch the events already";
                        write(&mut to, &line(&refusal(RefusalKind::Failed, why))?).await?;
                        continue;
                    };
                    drop(place);
                    return watch::watch(&self.shown, after.as_deref(), from, to).await;
                }
                Ok(request) => self.answer(request, &peer).await,
            };
            write(&mut to, &line(&answer)?).await?;
            if !whole || !allowed {
                return Ok(());
            }
        }
    }

    /// Ends when a client has had enough time for its question.
    async fn patience(&self) {
        let begun = Instant::now();
        loop {
            sleep(CROWDED).await;
            if self.places.available_permits() == 0 || begun.elapsed() >= PATIENCE {
                return;
            }
        }
    }

    async fn answer(&self, request: Request, peer: &Peer) -> Answer {
        match request {
            // It is answered by more than one line.
            Request::Events { .. } => refusal(RefusalKind::BadRequest, "events are watched, not asked for"),
            Request::Status => {
                self.questions.take(async { Answer::Status(Box::new(self.shown.status())) }).await
            }
            Request::Incidents { within, service } => {
                let within = within.map(Duration::from_secs);
                let past = self.shown.past.incidents(within, service.clone()).await;
                let list = async { self.shown.incidents(past, within, service.as_deref()) };
                Answer::Incidents(self.questions.take(list).await)
            }
            Request::Explain { incident } => {
                let explain = async { self.shown.history().explain(&incident) };
                let explained = match self.questions.take(explain).await {
                    Err(NotOne::None) => self.shown.past.explain(incident.clone()).await,
                    explained => explained,
                };
                match explained {
                    Ok(explanation) => {
                        Answer::Explanation(Box::new(self.shown.past.with_pressure(explanation).await))
                    }
                    Err(none) => refusal(RefusalKind::NotFound, &none.in_words(&incident)),
                }
            }
            Request::Report { within, service } => {
                let made = self.shown.past.report(Duration::from_secs(within), service);
                match self.reports.take(made).await {
                    Ok(report) => Answer::Report(Box::new(report)),
                    Err(why) => refusal(RefusalKind::Failed, &format!("no report can be made: {why}")),
                }
            }
            Request::Reload { reason } => {
                if let Some(refusal) = too_long(reason.as_deref()) {
                    return refusal;
                }
                let (answer, outcome) = oneshot::channel();
                let request = ReloadRequest { by: peer.operator().await, reason, answer };
                // The daemon answers at its next turn; both channels close when it ends.
                let _ = self.commands.take(self.requests.reloads.send(request)).await;
                let outcome = outcome.await.map(Answer::Reload);
                outcome.unwrap_or_else(|_| refusal(RefusalKind::Stopping, "the daemon ends"))
            }
            Request::Beat { heartbeat } => {
                let beat = async { self.shown.heartbeats.beat(&heartbeat, Caller::Admitted) };
                match self.questions.take(beat).await {
                    Ok(()) => Answer::Done(format!("{heartbeat} has reported in")),
                    Err(_) => refusal(RefusalKind::NotFound, "no heartbeat of this name is configured"),
                }
            }
            Request::AlertTest { receiver } => {
                let (answer, outcome) = oneshot::channel();
                let request = AlertTestRequest { receiver, by: peer.operator().await, answer };
                let _ = self.commands.take(self.requests.alert_tests.send(request)).await;
                // Each receiver has its own timeout.
                match outcome.await {
                    Ok(Ok(outcomes)) => Answer::AlertTest(outcomes),
                    Ok(Err(why)) => Answer::Error(why),
                    Err(_) => refusal(RefusalKind::Stopping, "the daemon ends"),
                }
            }
            Request::Operate(operation) => self.operate(operation, peer).await,
            Request::Drill { service, fault, reason, agreed } => {
                if let Some(refusal) = too_long(reason.as_deref()) {
                    return refusal;
                }
                let (answer, outcome) = oneshot::channel();
                let by = peer.operator().await;
                let request = DrillRequest { service, fault, reason, agreed, by, answer };
                let _ = self.commands.take(self.requests.drills.send(request)).await;
                // The daemon bounds the time of a drill.
                match outcome.await {
                    Ok(Ok(DrillAnswer::Plan(plan))) => Answer::DrillPlan(plan),
                    Ok(Ok(DrillAnswer::Report(report))) => Answer::Drill(report),
                    Ok(Err(why)) => Answer::Error(why),
                    Err(_) => refusal(RefusalKind::Stopping, "the daemon ends"),
                }
            }
        }
    }

    async fn operate(&self, operation: Operation, peer: &Peer) -> Answer {
        if let Some(refusal) = too_long(operation.reason.as_deref()) {
            return refusal;
        }
        let (answer, outcome) = oneshot::channel();
        let by = peer.operator().await;
        let request = OperatorRequest { operation, by, answer };
        let _ = self.commands.take(self.requests.operations.send(request)).await;
        match timeout(OUTCOME, outcome).await {
            Ok(Ok(Ok(done))) => Answer::Done(done),
            Ok(Ok(Err(why))) => Answer::Error(why),
            Ok(Err(_)) => refusal(RefusalKind::Stopping, "the daemon ends"),
            Err(_) => {
                Answer::Done("the service takes its time; `hostprobe status` shows how it goes on".to_owned())
            }
        }
    }
}

/// The refusal of a reason that is too long.
fn too_long(reason: Option<&str>) -> Option<Answer> {
    let is_long = reason.is_some_and(|reason| reason.len() > MAX_REASON);
    is_long.then(|| refusal(RefusalKind::BadRequest, &format!("a reason has at most {MAX_REASON} bytes")))
}

fn refusal(kind: RefusalKind, message: &str) -> Answer {
    Answer::Error(Refusal { kind, message: message.to_owned() })
}

#[cfg(test)]
mod tests;
