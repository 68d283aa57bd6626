//! Deliveries to a fake receiver on this host.

mod kept;
mod updates;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;
use crate::{
    clock::Timestamp,
    config::{AlertFormat, Secret},
    emit::{Name, Names},
    fact::{EventId, Incident, IncidentId, ServiceId, Severity, Timing, Verdict},
};

/// The opening of incident `number`.
pub(super) fn alert(number: u64, severity: Severity) -> Alert {
    let incident = Incident {
        id: IncidentId::new(number),
        service: ServiceId(0),
        verdict: Verdict::Killed,
        confidence: 1.0,
        summary: "api was killed by bash --password abc".to_owned(),
        severity,
        cause: ServiceId(0),
        evidence: vec![EventId(1)],
        held: Vec::new(),
        since: Timestamp::now(),
        timing: Timing::default(),
        attempts: 0,
        snapshot: None,
        context: Default::default(),
        drill: None,
        host: None,
        earlier: Default::default(),
    };
    let names = Names::new([Name { service: "api".to_owned(), unit: Some("api.service".to_owned()) }]);
    Alert::new(incident, names, false)
}

pub(super) fn critical(number: u64) -> Alert {
    alert(number, Severity::Critical)
}

pub(super) fn resolved(number: u64) -> Alert {
    Alert { resolved: true, ..critical(number) }
}

/// Keeps what it receives, and answers as scripted.
struct FakeReceiver {
    requests: mpsc::UnboundedReceiver<Value>,
    server: tokio::task::JoinHandle<()>,
}

type Fake = (mpsc::UnboundedSender<Value>, Arc<Mutex<VecDeque<StatusCode>>>);

async fn hook(
    State((requests, answers)): State<Fake>,
    Json(body): Json<Value>,
) -> (StatusCode, &'static str) {
    let _ = requests.send(body);
    match answers.lock().unwrap().pop_front() {
        Some(status) => (status, "no: token=abc"),
        None => (StatusCode::OK, ""),
    }
}

impl FakeReceiver {
    fn start(listener: TcpListener, answers: &[StatusCode]) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        let router = Router::new().route("/hook/t0ken", post(hook)).with_state((sender, answers));
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { requests, server }
    }

    async fn request(&mut self) -> Value {
        self.requests.recv().await.unwrap()
    }
}

impl Drop for FakeReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

const QUICK: Pace = Pace {
    timeout: Duration::from_secs(10),
    first_retry: Duration::from_millis(2),
    longest_retry: Duration::from_millis(20),
    refresh: Duration::from_secs(600),
};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(super) fn origin() -> Origin {
    Origin {
        host_name: "db-1".to_owned(),
        boot_id: "0ddba11e-0000-4000-8000-000000000000".to_owned(),
        ephemeral_id: "c0ffee00".to_owned(),
    }
}

fn alerter_of(receiver: AlertReceiver, pace: Pace) -> (Alerter, mpsc::Receiver<AlertOutcome>) {
    let (outcomes, reports) = mpsc::channel(100);
    let page = Some("http://127.0.0.1:9464/");
    (Alerter::with_pace(&[receiver], &origin(), page, outcomes, Kept::default(), pace).unwrap(), reports)
}

fn alerter(address: SocketAddr, format: AlertFormat, pace: Pace) -> (Alerter, mpsc::Receiver<AlertOutcome>) {
    let address = Secret::new(format!("http://user:pw@{address}/hook/t0ken?key=x"));
    alerter_of(AlertReceiver::new(format, address), pace)
}

#[tokio::test]
async fn alerts_arrive_in_order_and_the_deliveries_are_reported() {
    let (listener, address) = listener().await;
    let mut fake = FakeReceiver::start(listener, &[]);
    let (alerter, mut reports) = alerter(address, AlertFormat::Json, QUICK);
    alerter.notify(critical(1));
    alerter.notify(alert(2, Severity::Info));
    alerter.notify(resolved(1));
    alerter.notify(resolved(2));
    let opening = fake.request().await;
    assert_eq!(opening["status"], "firing");
    assert_eq!(opening["incident"]["id"], "c0ffee00-i1");
    assert_eq!(opening["incident"]["verdict"], "killed");
    assert_eq!(opening["message"], "api was killed by bash --password ***");
    assert_eq!(opening["service"]["unit"], "api.service");
    assert_eq!(opening["host"]["name"], "db-1");
    assert_eq!(fake.request().await["status"], "resolved");
    let report = reports.recv().await.unwrap();
    assert_eq!(report.receiver, format!("http://{address}"), "no path, no password");
    assert_eq!((report.attempts, report.error, report.resolved), (1, None, false));
    assert!(reports.recv().await.unwrap().resolved);
    assert_eq!(alerter.shutdown(Duration::from_secs(20)).await, 0);
    assert!(reports.recv().await.is_none(), "the informational incident is not sent at all");
}

#[tokio::test]
async fn a_receiver_that_comes_back_gets_all_alerts() {
    let (down, address) = listener().await;
    drop(down);
    let (alerter, mut reports) = alerter(address, AlertFormat::Json, QUICK);
    alerter.notify(critical(1));
    alerter.notify(resolved(1));
    let failure = reports.recv().await.unwrap();
    let why = failure.error.unwrap();
    assert!(why.contains("refused") && !why.contains("t0ken"), "{why}");
    assert_eq!(failure.attempts, 1);

    let mut fake = FakeReceiver::start(TcpListener::bind(address).await.unwrap(), &[]);
    assert_eq!(fake.request().await["status"], "firing");
    assert_eq!(fake.request().await["status"], "resolved");
    let success = reports.recv().await.unwrap();
    assert_eq!(success.error, None, "only the first failure is reported");
    assert!(success.attempts > 1);
}

#[tokio::test]
async fn a_refusal_is_quoted_without_its_secrets() {
    let (listener, address) = listener().await;
    let mut fake = FakeReceiver::start(listener, &[StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE]);
    let (alerter, mut reports) = alerter(address, AlertFormat::Json, QUICK);
    alerter.notify(critical(1));
    let failure = reports.recv().await.unwrap();
    assert_eq!(failure.error.unwrap(), "the receiver answered 400 Bad Request: no: token=***");
    let success = reports.recv().await.unwrap();
    assert_eq!((success.attempts, success.error), (3, None));
    for _ in 0..3 {
        assert_eq!(fake.request().await["status"], "firing");
    }
}

#[tokio::test]
async fn alertmanager_gets_the_labels_that_identify_an_alert() {
    let (listener, address) = listener().await;
    let mut fake = FakeReceiver::start(listener, &[]);
    let (alerter, _reports) = alerter(address, AlertFormat::Alertmanager, QUICK);
    let time = |alert: &Value, name: &str| alert[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();

    alerter.notify(alert(1, Severity::Warning));
    let opening = fake.request().await;
    let labels = &opening[0]["labels"];
    assert_eq!(labels["alertname"], "HostprobeIncident");
    assert_eq!(labels["service"], "api");
    assert_eq!(labels["verdict"], "killed");
    assert_eq!(labels["severity"], "warning");
    assert_eq!(labels["instance"], "db-1");
    assert_eq!(opening[0]["annotations"]["incident"], "c0ffee00-i1");
    assert_eq!(opening[0]["generatorURL"], "http://127.0.0.1:9464/");
    assert!(time(&opening[0], "endsAt") > jiff::Timestamp::now(), "the incident is open");

    alerter.notify(critical(1));
    let update = fake.request().await;
    assert_eq!(update[0]["labels"], opening[0]["labels"], "the alert with the old labels is resolved");
    assert!(time(&update[0], "endsAt") <= jiff::Timestamp::now());
    assert_eq!(update[1]["labels"]["severity"], "critical");
    assert_eq!(update[1]["startsAt"], opening[0]["startsAt"]);

    let mut end = resolved(1);
    end.incident.severity = Severity::Info;
    alerter.notify(end);
    let end = fake.request().await;
    assert_eq!(end.as_array().unwrap().len(), 1);
    assert_eq!(end[0]["labels"], update[1]["labels"], "it is resolved by the labels it was sent with");
    assert!(time(&end[0], "endsAt") <= jiff::Timestamp::now());
}

#[tokio::test]
async fn alertmanager_can_route_drills_in_a_way_of_their_own() {
    let (listener, address) = listener().await;
    let mut fake = FakeReceiver::start(listener, &[]);
    let (alerter, _reports) = alerter(address, AlertFormat::Alertmanager, QUICK);
    let mut drill = critical(1);
    drill.incident.drill = Some("root".to_owned());
    alerter.notify(drill);
    alerter.notify(critical(2));
    let labels =
        [fake.request().await, fake.request().await].map(|alert| alert[0]["labels"]["drill"].clone());
    assert_eq!(labels, [Value::from("true"), Value::Null]);
}

#[tokio::test]
async fn alertmanager_gets_reminders_of_firing_alerts() {
    let (listener, address) = listener().await;
    let mut fake = FakeReceiver::start(listener, &[]);
    let pace = Pace { refresh: Duration::from_millis(5), ..QUICK };
    let (alerter, _reports) = alerter(address, AlertFormat::Alertmanager, pace);
    alerter.notify(critical(1));
    let opening = fake.request().await;
    let reminder = fake.request().await;
    assert_eq!(reminder[0]["labels"], opening[0]["labels"]);
}

#[tokio::test]
async fn undelivered_alerts_are_counted_at_shutdown() {
    let (down, address) = listener().await;
    drop(down);
    let slow =
        Pace { first_retry: Duration::from_secs(600), longest_retry: Duration::from_secs(600), ..QUICK };
    let (alerter, mut reports) = alerter(address, AlertFormat::Json, slow);
    alerter.notify(critical(1));
    assert!(reports.recv().await.unwrap().error.is_some());
    assert_eq!(alerter.shutdown(Duration::from_secs(20)).await, 1);
}

#[tokio::test]
async fn the_error_of_a_bad_webhook_hides_its_secrets() {
    let receiver = AlertReceiver::new(AlertFormat::Json, Secret::new("ftp://u:pw@host/x"));
    let (outcomes, _) = mpsc::channel(1);
    let origin = Origin::read(std::path::Path::new("/proc"));
    let error =
        Alerter::spawn(&[receiver], &origin, None, outcomes, Kept::default()).unwrap_err().to_string();
    assert!(error.contains("ftp://u@host/x") && !error.contains("pw"), "{error}");
}

#[tokio::test]
async fn a_removed_receiver_gets_the_end_of_what_it_knows_and_nothing_new() {
    let (former_listener, former) = listener().await;
    let mut old = FakeReceiver::start(former_listener, &[]);
    let (mut alerter, _reports) = alerter(former, AlertFormat::Json, QUICK);
    alerter.notify(critical(1));
    assert_eq!(old.request().await["incident"]["id"], "c0ffee00-i1");
    let (next_listener, next) = listener().await;
    let mut new = FakeReceiver::start(next_listener, &[]);
    let address = Secret::new(format!("http://{next}/hook/t0ken"));
    let receiver = AlertReceiver::new(AlertFormat::Json, address);
    alerter.configure(std::slice::from_ref(&receiver)).unwrap();
    alerter.notify(critical(2));
    assert_eq!(new.request().await["incident"]["id"], "c0ffee00-i2");
    alerter.notify(resolved(1));
    let end = old.request().await;
    assert_eq!(
        (end["incident"]["id"].as_str(), end["status"].as_str()),
        (Some("c0ffee00-i1"), Some("resolved"))
    );
    // Its task has ended with its last incident, and the next reload forgets it.
    while !alerter.retired.iter().all(|retired| retired.task.is_finished()) {
        tokio::task::yield_now().await;
    }
    alerter.configure(&[receiver]).unwrap();
    assert!(alerter.retired.is_empty() && alerter.receivers.len() == 1);
    alerter.notify(resolved(2));
    assert_eq!(new.request().await["status"], "resolved", "the receiver that stays keeps its outbox");
    assert!(old.requests.try_recv().is_err());
}
