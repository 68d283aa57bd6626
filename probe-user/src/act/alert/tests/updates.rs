//! One message about an incident that is updated, at fake services on this host: the real ones cannot be reached from a
//! test.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
};

use super::*;
use crate::progress::Awaited;
use crate::{
    act::alert::{Change, Delivery, Keeper, KeptAlert},
    config::AlertRoute,
    fact::{AlertSilence, AlertTestOutcome},
};

/// A request: its method, its path with the query, and its body.
type Asked = (Method, String, Value);

/// The answers that are scripted: status, seconds of `Retry-After`, and body.
type Script = Arc<Mutex<VecDeque<(u16, Option<u64>, Value)>>>;

/// A fake service that keeps requests, and answers as scripted, then with `last`.
struct FakeService {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Asked>,
    script: Script,
}

type Shared = (mpsc::UnboundedSender<Asked>, Script, Value);

async fn answer(
    State((asked, script, last)): State<Shared>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, HeaderMap, Json<Value>) {
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let _ = asked.send((method, uri.to_string(), body));
    let (status, pause, body) = script.lock().unwrap().pop_front().unwrap_or((200, None, last));
    let mut headers = HeaderMap::new();
    if let Some(seconds) = pause {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    (StatusCode::from_u16(status).unwrap(), headers, Json(body))
}

impl FakeService {
    async fn start(last: Value) -> Self {
        let (listener, address) = listener().await;
        let (asked, requests) = mpsc::unbounded_channel();
        let script = Script::default();
        let router = Router::new().fallback(answer).with_state((asked, Arc::clone(&script), last));
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { address, requests, script }
    }

    fn next_answer(&self, status: u16, pause: Option<u64>, body: Value) {
        self.script.lock().unwrap().push_back((status, pause, body));
    }

    async fn request(&mut self) -> Asked {
        self.requests.recv().await.unwrap()
    }

    fn receiver(&self, format: AlertFormat, path: &str) -> AlertReceiver {
        AlertReceiver::new(format, Secret::new(format!("http://{}{path}", self.address)))
    }
}

fn slack(fake: &FakeService) -> AlertReceiver {
    AlertReceiver {
        token: Some(Secret::new("xoxb-1")),
        channel: Some("#alerts".to_owned()),
        ..fake.receiver(AlertFormat::Slack, "/api")
    }
}

fn posted() -> Value {
    serde_json::json!({"ok": true, "channel": "C1", "ts": "17.5"})
}

#[tokio::test]
async fn a_slack_bot_updates_its_message_and_speaks_up_when_it_gets_worse() {
    let mut fake = FakeService::start(posted()).await;
    let (alerter, _reports) = alerter_of(slack(&fake), QUICK);
    alerter.notify(alert(1, Severity::Warning));
    let (_, path, body) = fake.request().await;
    assert_eq!((path.as_str(), &body["channel"]), ("/api/chat.postMessage", &Value::from("#alerts")));
    assert!(body["thread_ts"].is_null());

    alerter.notify(critical(1));
    let (_, path, body) = fake.request().await;
    assert_eq!(
        (path.as_str(), &body["channel"], &body["ts"]),
        ("/api/chat.update", &Value::from("C1"), &Value::from("17.5"))
    );
    let (_, path, body) = fake.request().await;
    assert_eq!((path.as_str(), &body["thread_ts"]), ("/api/chat.postMessage", &Value::from("17.5")));

    alerter.notify(resolved(1));
    let (_, path, body) = fake.request().await;
    assert_eq!(path, "/api/chat.update");
    assert!(body["text"].as_str().unwrap().contains("RESOLVED"), "{body}");
    assert_eq!(alerter.shutdown(Duration::from_secs(20)).await, 0);
    assert!(fake.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_acknowledgement_is_an_update_and_no_message() {
    let mut fake = FakeService::start(posted()).await;
    let (alerter, mut reports) = alerter_of(slack(&fake), QUICK);
    alerter.notify(critical(1));
    fake.request().await;
    reports.recv().await.unwrap();
    let silence = AlertSilence { reason: "acknowledged by root: on it".to_owned(), acknowledged: true };
    alerter.silence(IncidentId::new(1), Some(&silence));
    let (_, path, body) = fake.request().await;
    assert_eq!(path, "/api/chat.update");
    let text = body.to_string();
    assert!(text.contains("ACKNOWLEDGED") && text.contains("acknowledged by root: on it"), "{text}");
}

#[tokio::test]
async fn a_message_that_is_gone_is_sent_anew() {
    let mut fake = FakeService::start(posted()).await;
    let (alerter, mut reports) = alerter_of(slack(&fake), QUICK);
    alerter.notify(critical(1));
    fake.request().await;
    reports.recv().await.unwrap();
    fake.next_answer(200, None, serde_json::json!({"ok": false, "error": "message_not_found"}));
    alerter.notify(resolved(1));
    assert_eq!(fake.request().await.1, "/api/chat.update");
    let (_, path, body) = fake.request().await;
    assert_eq!((path.as_str(), &body["channel"]), ("/api/chat.postMessage", &Value::from("#alerts")));
    assert_eq!(reports.recv().await.unwrap().error, None);
}

#[tokio::test]
async fn telegram_and_discord_update_by_the_id_they_answered_with() {
    let mut telegram =
        FakeService::start(serde_json::json!({"ok": true, "result": {"message_id": 42}})).await;
    let receiver = AlertReceiver {
        token: Some(Secret::new("1:b0t")),
        channel: Some("-1001".to_owned()),
        ..telegram.receiver(AlertFormat::Telegram, "")
    };
    let (alerter, _reports) = alerter_of(receiver, QUICK);
    alerter.notify(critical(1));
    assert_eq!(telegram.request().await.1, "/bot1:b0t/sendMessage");
    alerter.notify(resolved(1));
    let (_, path, body) = telegram.request().await;
    assert_eq!((path.as_str(), &body["message_id"]), ("/bot1:b0t/editMessageText", &Value::from(42)));

    let mut discord = FakeService::start(serde_json::json!({"id": "104"})).await;
    let (alerter, _reports) = alerter_of(discord.receiver(AlertFormat::Discord, "/api/webhooks/1/t"), QUICK);
    alerter.notify(critical(1));
    let (method, path, _) = discord.request().await;
    assert_eq!((method, path.as_str()), (Method::POST, "/api/webhooks/1/t?wait=true"));
    alerter.notify(resolved(1));
    let (method, path, _) = discord.request().await;
    assert_eq!((method, path.as_str()), (Method::PATCH, "/api/webhooks/1/t/messages/104"));
}

#[tokio::test]
async fn a_receiver_that_is_busy_is_left_alone_for_as_long_as_it_asks_and_the_order_stays() {
    let mut fake = FakeService::start(Value::Null).await;
    let (alerter, mut reports) = alerter_of(fake.receiver(AlertFormat::Json, "/"), QUICK);
    fake.next_answer(429, Some(1), Value::Null);
    let began = std::time::Instant::now();
    for number in 1..=3 {
        alerter.notify(critical(number));
    }
    let mut incidents = Vec::new();
    for _ in 0..4 {
        incidents.push(fake.request().await.2["incident"]["id"].as_str().unwrap().to_owned());
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(incidents, ["c0ffee00-i1", "c0ffee00-i1", "c0ffee00-i2", "c0ffee00-i3"]);
    assert!(reports.recv().await.unwrap().error.unwrap().contains("429"));
}

/// Keeps what it is given, as the state file does.
#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<u64, KeptAlert>>);

impl Keeper for Memory {
    fn keep(&self, _: &str, changes: Vec<Change>) -> Option<Awaited> {
        let mut kept = self.0.lock().unwrap();
        for change in changes {
            match change {
                Change::Put(alert) => _ = kept.insert(alert.number, *alert),
                Change::Remove(number) => _ = kept.remove(&number),
            }
        }
        None
    }
}

#[tokio::test]
async fn the_next_run_updates_the_message_of_the_one_before() {
    let mut fake = FakeService::start(posted()).await;
    let memory = Arc::new(Memory::default());
    let receiver = slack(&fake);
    let run = |alerts| {
        let (outcomes, reports) = mpsc::channel(100);
        let kept = Kept { keeper: Some(Arc::clone(&memory) as Arc<dyn Keeper>), alerts };
        let receivers = std::slice::from_ref(&receiver);
        (Alerter::with_pace(receivers, &origin(), None, outcomes, kept, QUICK).unwrap(), reports)
    };
    let (first, _reports) = run(BTreeMap::new());
    first.notify(critical(1));
    fake.request().await;
    assert_eq!(first.shutdown(Duration::from_secs(20)).await, 0);
    let kept: Vec<KeptAlert> = memory.0.lock().unwrap().values().cloned().collect();
    assert_eq!((kept[0].delivery, kept[0].posted.as_deref()), (Delivery::Done, Some("C1 17.5")));

    let (next, _reports) = run(BTreeMap::from([(identity(&receiver, 0), kept)]));
    next.notify(resolved(1));
    assert_eq!(fake.request().await.1, "/api/chat.update");
    assert_eq!(next.shutdown(Duration::from_secs(20)).await, 0);
    assert!(memory.0.lock().unwrap().is_empty(), "nothing is left to know");
}

#[tokio::test]
async fn a_reload_changes_how_a_receiver_is_reached_and_keeps_its_outbox() {
    let mut fake = FakeService::start(Value::Null).await;
    let receiver = fake.receiver(AlertFormat::Json, "/");
    let (mut alerter, mut reports) = alerter_of(receiver.clone(), QUICK);
    alerter.notify(critical(1));
    fake.request().await;
    reports.recv().await.unwrap();
    let route = AlertRoute { services: vec!["db-*".to_owned()], ..AlertRoute::default() };
    alerter.configure(&[AlertReceiver { name: Some("ops".to_owned()), route, ..receiver }]).unwrap();
    alerter.notify(critical(2));
    alerter.notify(resolved(1));
    let (_, _, end) = fake.request().await;
    assert_eq!(
        (end["incident"]["id"].as_str(), end["status"].as_str()),
        (Some("c0ffee00-i1"), Some("resolved"))
    );
    let report = reports.recv().await.unwrap();
    assert_eq!((report.receiver.as_str(), report.resolved), ("ops", true), "i2 is of another service");
    assert_eq!(alerter.waiting_by_receiver(), [("ops".to_owned(), 0)]);
}

#[tokio::test]
async fn a_test_reaches_the_receiver_of_that_name_and_reports_its_answer() {
    let mut fake = FakeService::start(posted()).await;
    let receiver = AlertReceiver { name: Some("oncall".to_owned()), ..slack(&fake) };
    let (alerter, _reports) = alerter_of(receiver, QUICK);
    assert!(alerter.test(Some("other"), "root").is_none());
    let outcomes = alerter.test(Some("oncall"), "root").unwrap().await;
    assert_eq!(outcomes, [AlertTestOutcome { receiver: "oncall".to_owned(), error: None }]);
    let (_, path, body) = fake.request().await;
    assert_eq!(path, "/api/chat.postMessage");
    assert!(body["text"].as_str().unwrap().contains("TEST"), "{body}");
    assert_eq!(fake.request().await.1, "/api/chat.update");
    fake.next_answer(200, None, serde_json::json!({"ok": false, "error": "channel_not_found"}));
    let outcomes = alerter.test(None, "root").unwrap().await;
    assert_eq!(outcomes[0].error.as_deref(), Some("Slack answered: channel_not_found"));
}
