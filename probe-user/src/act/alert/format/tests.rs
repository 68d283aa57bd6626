//! Messages against what the receivers' documentation says, and the page that shows them.
//!
//! The services cannot be reached from a test. `fixtures/` has their rules as JSON Schemas, and their answers, each with
//! its source.

use std::{sync::LazyLock, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{call::LONGEST_PAUSE, text::Writer, *};
use crate::{
    act::alert::{
        notification::{Alert, Notification, Summary},
        outbox::Message,
        tests::{alert, critical, origin},
    },
    config::{MailOptions, Secret},
    fact::{AlertSilence, CrashSite, ServiceId, Severity, Timing},
};

mod page;

const PAGE: Option<&str> = Some("https://db-1.example:9464/");

static FIXTURES: LazyLock<Vec<(&str, Value)>> = LazyLock::new(|| {
    [
        ("slack", include_str!("fixtures/slack.json")),
        ("pagerduty", include_str!("fixtures/pagerduty.json")),
        ("ntfy", include_str!("fixtures/ntfy.json")),
        ("telegram", include_str!("fixtures/telegram.json")),
        ("discord", include_str!("fixtures/discord.json")),
        ("teams", include_str!("fixtures/teams.json")),
    ]
    .map(|(name, text)| (name, serde_json::from_str(text).unwrap()))
    .to_vec()
});

fn fixture(receiver: &str) -> &'static Value {
    FIXTURES.iter().find(|(name, _)| *name == receiver).map(|(_, fixture)| fixture).unwrap()
}

/// A receiver of each format but those of webhooks.
pub(super) fn receivers() -> Vec<AlertReceiver> {
    let new = |format, address: &str| AlertReceiver::new(format, Secret::new(address));
    let token = |text: &str| Some(Secret::shown_as(text, "***", Vec::new()));
    let mail = MailOptions {
        from: "hostprobe <hostprobe@example.org>".to_owned(),
        to: vec!["ops@example.org".to_owned()],
        starttls: true,
    };
    vec![
        new(AlertFormat::Slack, "https://hooks.slack.com/services/T0/B0/x"),
        AlertReceiver {
            token: token("xoxb-1"),
            channel: Some("#alerts".to_owned()),
            ..new(AlertFormat::Slack, "https://slack.com/api")
        },
        AlertReceiver {
            token: token("r0ut1ng"),
            ..new(AlertFormat::Pagerduty, "https://events.pagerduty.com/v2/enqueue")
        },
        AlertReceiver { mail: Some(mail), ..new(AlertFormat::Email, "smtp://mail.example") },
        AlertReceiver { token: token("tk_1"), ..new(AlertFormat::Ntfy, "https://ntfy.sh/base/my-topic") },
        AlertReceiver {
            token: token("1:bot"),
            channel: Some("-1001234".to_owned()),
            ..new(AlertFormat::Telegram, "https://api.telegram.org")
        },
        new(AlertFormat::Discord, "https://discord.com/api/webhooks/1/t?thread_id=7"),
        new(AlertFormat::Teams, "https://example.logic.azure.com/workflows/1?sig=x"),
    ]
}

fn message(alert: Alert) -> Message {
    let since = alert.incident.began();
    Message::new(7, Notification { alert, since })
}

/// Messages of all kinds, with texts that are made to break out.
fn messages() -> Vec<Message> {
    let hostile = "@everyone <!channel> <@U1> <b>&amp;</b> [x](http://evil.example) *b* `c` ||s|| @admin \
                   http://evil.example\r\nBcc: x@evil.example\u{202e}\u{1b}[31m token=s3cret-t0ken ";
    let mut firing = critical(1);
    firing.incident.summary = hostile.repeat(40);
    firing.incident.drill = Some(hostile.to_owned());
    firing.incident.snapshot = Some(hostile.repeat(20));
    firing.incident.cause = ServiceId(1);
    firing.incident.held = vec![ServiceId(0); 500];
    let mut site = CrashSite::example();
    site.stack[0].symbol = Some(hostile.repeat(5));
    site.core = Some(hostile.to_owned());
    firing.incident.context.crash = Some(Box::new(site));
    firing.done = Some(format!("restart 1, by systemd, failed: {hostile}"));
    let mut acknowledged = firing.clone();
    acknowledged.silence = Some(AlertSilence { reason: hostile.to_owned(), acknowledged: true });
    let paused = Alert {
        silence: Some(AlertSilence { reason: "paused by root".to_owned(), acknowledged: false }),
        ..alert(3, Severity::Warning)
    };
    let over = Alert { resolved: true, ..firing.clone() };
    let storm = Alert { summary: Some(Summary { open: 9, ..Summary::default() }), ..firing.clone() };
    let test = Alert { test: true, ..alert(4, Severity::Info) };
    let mut all: Vec<Message> =
        [firing, acknowledged, paused, over, storm, test, alert(2, Severity::Info)].map(message).into();
    let mut reminder = message(critical(5));
    reminder.is_reminder = true;
    all.push(reminder);
    all
}

fn request(call: Call) -> Request {
    match call {
        Call::Request(request) => request,
        Call::Mail(_) => panic!("a mail"),
    }
}

fn json(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// Each call about each message: the receiver's key, the part of the fixture, and the request.
fn requests() -> Vec<(&'static str, &'static str, Request)> {
    let mut all = Vec::new();
    for receiver in receivers() {
        let (name, is_bot) = (receiver.format.as_str(), receiver.token.is_some());
        let format = of(&receiver, &origin(), PAGE).unwrap();
        let (post, edit, posted) = match (receiver.format, is_bot) {
            (AlertFormat::Slack, false) => ("webhook", None, None),
            (AlertFormat::Slack, true) => ("chat.postMessage", Some("chat.update"), Some("C1 17.5")),
            (AlertFormat::Pagerduty, _) => ("event", None, None),
            (AlertFormat::Telegram, _) => ("sendMessage", Some("editMessageText"), Some("42")),
            (AlertFormat::Discord, _) => ("message", Some("message"), Some("1043225945017704448")),
            (AlertFormat::Ntfy | AlertFormat::Teams, _) => ("message", None, None),
            (AlertFormat::Email | AlertFormat::Json | AlertFormat::Alertmanager, _) => continue,
        };
        for message in messages() {
            all.push((name, post, request(format.post(&message, None).unwrap())));
            all.push((name, post, request(format.post(&message, posted).unwrap())));
            if let (Some(edit), Some(posted)) = (edit, posted) {
                all.push((name, edit, request(format.edit(&message, posted).unwrap())));
            }
        }
    }
    all
}

#[test]
fn every_message_is_what_the_documentation_of_its_receiver_says() {
    let all = requests();
    assert!(all.len() > 100, "{}", all.len());
    for (receiver, part, request) in &all {
        let schema = &fixture(receiver)[part];
        assert!(schema.is_object(), "{receiver} has no {part}");
        let validator = jsonschema::draft202012::new(schema).unwrap();
        let body = json(request);
        let complaints: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert_eq!(complaints, [""; 0], "{receiver} {part}: {body:#}");
    }
}

#[test]
fn no_message_is_longer_than_its_receiver_takes() {
    for (receiver, _, request) in requests() {
        let body = json(&request);
        match receiver {
            // In UTF-16 units, after the entities are read.
            "telegram" => {
                let mut text = body["text"].as_str().unwrap().to_owned();
                for tag in ["<b>", "</b>", "<code>", "</code>"] {
                    text = text.replace(tag, "");
                }
                let text = text
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&quot;", "\"")
                    .replace("&amp;", "&");
                assert!(text.encode_utf16().count() <= 4096 + 100, "{}", text.len());
            }
            "discord" => {
                let embed = &body["embeds"][0];
                let fields = embed["fields"].as_array().unwrap().iter();
                let texts = fields.flat_map(|field| [&field["name"], &field["value"]]);
                let texts = texts.chain([&embed["title"], &embed["description"]]);
                let total: usize = texts.map(|text| text.as_str().unwrap().chars().count()).sum();
                assert!(total <= 6000, "{total}");
            }
            "ntfy" => assert!(body["message"].as_str().unwrap().len() <= 4096),
            "teams" => assert!(request.body.len() <= 28 << 10, "{}", request.body.len()),
            "slack" => assert!(request.body.len() <= 40_000, "{}", request.body.len()),
            _ => assert!(request.body.len() <= 512 << 10),
        }
    }
}

#[test]
fn a_foreign_text_mentions_no_one_and_makes_no_markup() {
    for (receiver, part, request) in requests() {
        let body = json(&request);
        let text = body.to_string();
        assert!(
            !text.contains('\u{202e}') && !text.contains("\\u001b") && !text.contains("s3cret"),
            "{text}"
        );
        match receiver {
            "slack" => {
                let shown = body["text"].as_str().unwrap();
                assert!(!shown.contains("<!") && !shown.contains("<@"), "{shown}");
                let foreign =
                    body["blocks"].as_array().unwrap().iter().filter(|block| block["type"] != "context");
                for block in foreign {
                    assert!(!block.to_string().contains("mrkdwn"), "{block}");
                }
            }
            "telegram" => {
                let html = body["text"].as_str().unwrap();
                for (at, _) in html.match_indices("evil") {
                    let before = &html[..at];
                    assert!(before.rfind("<code>") > before.rfind("</code>"), "{html}");
                }
                assert!(!html.contains("<b>&amp;amp;</b>"), "{html}");
            }
            "discord" => {
                assert_eq!(body["allowed_mentions"]["parse"].as_array().map(Vec::len), Some(0));
                let description = body["embeds"][0]["description"].as_str().unwrap();
                for markup in [" @everyone", "<@", "](", "http:", " *b", "||"] {
                    assert!(!description.contains(markup), "{markup} in {description}");
                }
            }
            "teams" => assert!(!text.contains("\"TextBlock\""), "{part}"),
            _ => {}
        }
    }
}

#[test]
fn tokens_stand_where_the_receiver_expects_them() {
    for (receiver, part, request) in requests() {
        let authorization =
            request.headers.iter().find(|(name, _)| name == "authorization").map(|(_, it)| it.as_str());
        let (url, body) = (request.url.as_str(), json(&request));
        match (receiver, part) {
            ("slack", "webhook") => assert_eq!(authorization, None),
            ("slack", method) => {
                assert_eq!(
                    (url, authorization),
                    (format!("https://slack.com/api/{method}").as_str(), Some("Bearer xoxb-1"))
                );
            }
            ("pagerduty", _) => {
                assert_eq!((authorization, &body["routing_key"]), (None, &Value::from("r0ut1ng")))
            }
            ("ntfy", _) => {
                assert_eq!((url, authorization), ("https://ntfy.sh/base/", Some("Bearer tk_1")));
                assert_eq!(body["topic"], "my-topic");
            }
            ("telegram", method) => assert_eq!(url, format!("https://api.telegram.org/bot1:bot/{method}")),
            ("discord", _) if request.method == Method::PATCH => {
                assert_eq!(
                    url,
                    "https://discord.com/api/webhooks/1/t/messages/1043225945017704448?thread_id=7"
                );
            }
            ("discord", _) => assert_eq!(url, "https://discord.com/api/webhooks/1/t?thread_id=7&wait=true"),
            _ => {}
        }
    }
}

fn answer(status: u16, body: &Value) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, body: body.to_string().into_bytes(), retry_after: None }
}

fn format_of(name: AlertFormat) -> Box<dyn Format> {
    // The last Slack one is the bot.
    let receiver = receivers().into_iter().rfind(|receiver| receiver.format == name).unwrap();
    of(&receiver, &origin(), PAGE).unwrap()
}

#[test]
fn answers_are_read_as_the_documentation_says() {
    let kind =
        |format: &dyn Format, status, body: &Value| format.read(&answer(status, body)).map_err(|it| it.kind);
    let busy = |millis| Err(RefusedKind::Busy(Some(Duration::from_millis(millis))));
    let (refused, gone) = (Err(RefusedKind::Message), Err(RefusedKind::Gone));

    let (slack, answers) = (format_of(AlertFormat::Slack), &fixture("slack")["answers"]);
    assert_eq!(kind(&*slack, 200, &answers["posted"]), Ok(Some("C123456 1503435956.000247".to_owned())));
    assert_eq!(kind(&*slack, 200, &answers["gone"]), gone);
    assert_eq!(kind(&*slack, 200, &answers["refused"]), refused);
    assert_eq!(kind(&*slack, 200, &answers["busy"]), Err(RefusedKind::Busy(None)));
    assert_eq!(kind(&*slack, 503, &Value::Null), Err(RefusedKind::Busy(None)));

    let (telegram, answers) = (format_of(AlertFormat::Telegram), &fixture("telegram")["answers"]);
    assert_eq!(kind(&*telegram, 200, &answers["posted"]), Ok(Some("42".to_owned())));
    assert_eq!(kind(&*telegram, 400, &answers["unchanged"]), Ok(None));
    assert_eq!(kind(&*telegram, 400, &answers["gone"]), gone);
    assert_eq!(kind(&*telegram, 400, &answers["refused"]), refused);
    assert_eq!(kind(&*telegram, 429, &answers["busy"]), busy(35_000));

    let (discord, answers) = (format_of(AlertFormat::Discord), &fixture("discord")["answers"]);
    assert_eq!(kind(&*discord, 200, &answers["posted"]), Ok(Some("1043225945017704448".to_owned())));
    assert_eq!(kind(&*discord, 404, &answers["gone"]), gone);
    assert_eq!(kind(&*discord, 400, &answers["refused"]), refused);
    assert_eq!(kind(&*discord, 429, &answers["busy"]), busy(1_336));

    let pagerduty = format_of(AlertFormat::Pagerduty);
    assert_eq!(kind(&*pagerduty, 202, &fixture("pagerduty")["answers"]["accepted"]), Ok(None));
    let long = Answer { retry_after: Some(Duration::from_secs(86_400)), ..answer(429, &Value::Null) };
    assert_eq!(pagerduty.read(&long).unwrap_err().kind, RefusedKind::Busy(Some(LONGEST_PAUSE)));
}

#[test]
fn pagerduty_gets_one_key_for_an_incident_from_its_trigger_to_its_resolve() {
    let format = format_of(AlertFormat::Pagerduty);
    let event = |alert: Alert| {
        let body = json(&request(format.post(&message(alert), None).unwrap()));
        (body["event_action"].as_str().unwrap().to_owned(), body["dedup_key"].as_str().unwrap().to_owned())
    };
    let key = "c0ffee00-i1".to_owned();
    let acknowledged = Alert {
        silence: Some(AlertSilence { reason: "on it".to_owned(), acknowledged: true }),
        ..critical(1)
    };
    assert_eq!(event(critical(1)), ("trigger".to_owned(), key.clone()));
    assert_eq!(event(acknowledged), ("acknowledge".to_owned(), key.clone()));
    assert_eq!(event(Alert { resolved: true, ..critical(1) }), ("resolve".to_owned(), key));
}

#[test]
fn a_mail_has_both_forms_and_no_text_adds_a_header() {
    let format = format_of(AlertFormat::Email);
    let mut hostile = critical(1);
    hostile.names = crate::emit::Names::new([crate::emit::Name {
        service: "api\r\nBcc: x@evil.example".to_owned(),
        unit: None,
    }]);
    hostile.incident.summary = "<b>x</b>\r\n.\r\nMAIL FROM:<x@evil.example>".to_owned();
    let mail = |message: &Message| match format.post(message, None).unwrap() {
        Call::Mail(mail) => String::from_utf8(mail.bytes).unwrap(),
        Call::Request(_) => panic!("a request"),
    };
    let first = mail(&message(hostile.clone()));
    let (headers, body) = first.split_once("\r\n\r\n").unwrap();
    for header in headers.replace("\r\n ", " ").lines() {
        assert!(!header.starts_with("Bcc"), "{headers}");
    }
    assert!(
        headers.contains("Auto-Submitted: auto-generated")
            && headers.contains("Message-ID: <c0ffee00-i1@example.org>"),
        "{headers}"
    );
    assert!(
        body.contains("text/plain") && body.contains("text/html") && body.contains("&lt;b&gt;x"),
        "{body}"
    );
    assert!(!body.contains("\r\n.\r\n"), "{body}");
    let mut end = message(Alert { resolved: true, ..hostile });
    end.previous = Some(end.notification.clone());
    let end = mail(&end);
    assert!(end.contains("In-Reply-To: <c0ffee00-i1@example.org>"), "{end}");
    assert!(!end.contains("Message-ID: <c0ffee00-i1@example.org>"), "{end}");
}

#[test]
fn a_text_says_what_was_done_and_whether_it_worked() {
    let writer = Writer { origin: origin(), page: None };
    let fact = |text: &text::Text, name: &str| {
        text.facts.iter().find(|(it, _)| *it == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let open = writer.text(&message(critical(1)));
    assert_eq!(open.title, "CRITICAL: api on db-1: killed");
    assert_eq!(fact(&open, "Done"), "nothing by hostprobe");
    assert_eq!(fact(&open, "Acknowledge"), "hostprobe ack c0ffee00-i1");
    let mut restarted = critical(1);
    restarted.incident.attempts = 2;
    restarted.done = Some("restart 2, by systemd, was carried out".to_owned());
    let restarted = writer.text(&message(restarted));
    assert!(fact(&restarted, "Now").ends_with("not healthy yet after 2 restarts"), "{restarted:?}");
    let mut over = critical(1);
    over.resolved = true;
    over.incident.timing = Timing { healthy: Some(Duration::from_secs(3)), ..Timing::default() };
    let over = writer.text(&message(over));
    assert_eq!(
        (over.title.as_str(), fact(&over, "Now").as_str()),
        ("RESOLVED: api on db-1: killed", "over; healthy again 3 s after the fault")
    );
    assert_eq!(fact(&over, "Acknowledge"), "");
}

#[test]
fn a_crash_is_said_with_its_place_and_its_core_dump() {
    let mut alert = critical(1);
    alert.incident.context.crash = Some(Box::new(CrashSite::example()));
    let text = Writer { origin: origin(), page: None }.text(&message(alert));
    let facts: Vec<_> = text.facts.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(
        facts.contains(&("Crash", "crashed in parse_header (libfoo.so.1+0x1180), reading 0x10")),
        "{facts:?}"
    );
    assert!(facts.contains(&("Core dump", "/var/lib/systemd/coredump/core.api.zst")), "{facts:?}");
}

#[test]
fn a_body_is_signed_as_standard_webhooks_says() {
    // The example of the specification's reference libraries.
    let key = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let receiver = AlertReceiver {
        signing_key: Some(key),
        headers: vec![("X-Team".to_owned(), Secret::new("ops"))],
        token: Some(Secret::new("t0ken")),
        ..AlertReceiver::new(AlertFormat::Json, Secret::new("https://h/"))
    };
    let webhook = json::Webhook::new(&receiver, Url::parse("https://h/").unwrap());
    let time = jiff::Timestamp::from_second(1_614_265_330).unwrap();
    let body = serde_json::json!({"test": 2_432_232_314_u64});
    let request = request(webhook.request(&body, "msg_p5jXN8AQM9LWM0D4loKWxJek", time));
    let header = |name: &str| request.headers.iter().find(|(it, _)| it == name).map(|(_, it)| it.as_str());
    assert_eq!(header("webhook-id"), Some("msg_p5jXN8AQM9LWM0D4loKWxJek"));
    assert_eq!(header("webhook-timestamp"), Some("1614265330"));
    let signed =
        format!("msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{}", String::from_utf8_lossy(&request.body));
    let bytes = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    .unwrap();
    let tag = header("webhook-signature").and_then(|it| it.strip_prefix("v1,")).unwrap();
    let tag = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, tag).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &bytes);
    ring::hmac::verify(&key, signed.as_bytes(), &tag).unwrap();
    assert_eq!((header("X-Team"), header("authorization")), (Some("ops"), Some("Bearer t0ken")));
}
