//! docs/alerts.md shows the messages as they are.

use std::fmt::Write as _;

use super::*;
use crate::{
    emit::tests::samples::{blame, hang},
    fact::{FaultContext, Verdict},
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/alerts.md");

const HEAD: &str = "\
# Alerts

What receivers of `[[alert]]` get ([configuration.md](configuration.md#alert)). This page is generated:
`UPDATE_DOCS=1 cargo test -p hostprobe --lib docs_alerts` writes it again.

Each message says what failed and why, what hostprobe did and whether that helped, where, since when, and how to
acknowledge it. Foreign text, such as that of a process, is shown as it is: it mentions no user, makes no links, and has no
secrets of the configuration in it. Mail programs may make links of addresses by themselves.

`hostprobe alert test [NAME]` sends a test message to one receiver or to all.
";

/// An incident whose texts do not depend on the time.
fn sample(resolved: bool) -> Message {
    let mut alert = critical(1);
    alert.incident.summary =
        "the kernel killed the main process 4711 of api: out of memory in its cgroup (limit 512 MiB)"
            .to_owned();
    alert.incident.verdict = crate::fact::Verdict::OomKilled;
    alert.incident.attempts = 1;
    alert.done = Some("restart 1, by systemd, was carried out".to_owned());
    alert.incident.timing = Timing { healthy: Some(Duration::from_millis(3_200)), ..Timing::default() };
    alert.resolved = resolved;
    let mut message = message(alert);
    if resolved {
        message.previous = Some(message.notification.clone());
    }
    message
}

/// The text with its times replaced.
fn timeless(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("Since") {
        let (before, after) = rest.split_at(at);
        shown.push_str(before);
        let end = after.find("UTC").map_or(after.len(), |end| end + 3);
        let begin = after.find("20").unwrap_or(end).min(end);
        shown.push_str(&after[..begin]);
        shown.push_str("2026-01-31 03:00:00 UTC");
        rest = &after[end..];
    }
    shown.push_str(rest);
    let open = shown.find("open for ").map(|at| at + "open for ".len());
    match open.and_then(|at| shown[at..].find(" s;").or(shown[at..].find(" ms;")).map(|end| (at, at + end))) {
        Some((at, end)) => {
            let unit = shown[end..].find(';').map_or(shown.len(), |length| end + length);
            format!("{}12 s{}", &shown[..at], &shown[unit..])
        }
        None => shown,
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for receiver in receivers() {
        let format = of(&receiver, &origin(), PAGE).unwrap();
        let is_bot = receiver.token.is_some();
        let (heading, posted) = match (receiver.format, is_bot) {
            (AlertFormat::Slack, false) => ("Slack, by an incoming webhook", None),
            (AlertFormat::Slack, true) => ("Slack, by a bot", Some("C024BE91L 1503435956.000247")),
            (AlertFormat::Pagerduty, _) => ("PagerDuty", None),
            (AlertFormat::Email, _) => ("Mail", None),
            (AlertFormat::Ntfy, _) => ("ntfy", None),
            (AlertFormat::Telegram, _) => ("Telegram", Some("42")),
            (AlertFormat::Discord, _) => ("Discord", Some("1043225945017704448")),
            (AlertFormat::Teams, _) => ("Microsoft Teams", None),
            (AlertFormat::Json | AlertFormat::Alertmanager, _) => continue,
        };
        let _ = writeln!(page, "\n## {heading}\n");
        let calls = [("opens", sample(false), None), ("is over", sample(true), posted)];
        for (when, message, posted) in calls {
            let edit = posted.and_then(|posted| format.edit(&message, posted));
            let call = edit.unwrap_or_else(|| format.post(&message, None).unwrap());
            let _ = writeln!(page, "When an incident {when}:\n");
            page.push_str(&shown(call));
        }
    }
    page.push_str(EVIDENCE);
    let receiver = receivers().into_iter().find(|it| it.format == AlertFormat::Email).unwrap();
    let mail = of(&receiver, &origin(), PAGE).unwrap();
    for (kind, message) in with_evidence() {
        let _ = writeln!(page, "{kind}:\n");
        page.push_str(&shown(mail.post(&message, None).unwrap()));
    }
    page
}

const EVIDENCE: &str = "\
## The evidence in a message

Every format has these lines where hostprobe found them. They are shown as mails here.

";

/// Incidents whose evidence was found.
fn with_evidence() -> [(&'static str, Message); 4] {
    let incident = |verdict, summary: &str, context| {
        let mut alert = critical(1);
        alert.incident.verdict = verdict;
        alert.incident.summary = summary.to_owned();
        alert.incident.attempts = 1;
        alert.incident.context = context;
        alert.done = Some("restart 1, by systemd, was carried out".to_owned());
        message(alert)
    };
    let crash = FaultContext {
        crash: Some(Box::new(CrashSite::example())),
        logs: vec!["reads a header of 0 bytes".to_owned()],
        changes: vec!["its program /opt/api was changed 40 s before".to_owned()],
        ..FaultContext::default()
    };
    let hang = FaultContext { stacks: Some(Box::new(hang::stacks())), ..FaultContext::default() };
    let memory = FaultContext { culprit: Some(Box::new(blame::culprit())), ..FaultContext::default() };
    let kill = FaultContext { actor: Some(Box::new(blame::actor())), ..FaultContext::default() };
    [
        ("A crash", incident(Verdict::Crashed, "the main process 4711 of api crashed (SIGSEGV)", crash)),
        ("A hang", incident(Verdict::Hung, "api takes connections and does not answer", hang)),
        ("Memory that ran out", {
            let words =
                "the kernel killed the main process 4242 of api: out of memory in its cgroup (limit 512 MiB)";
            incident(Verdict::OomKilled, words, memory)
        }),
        ("A kill", incident(Verdict::Killed, "api was killed (SIGKILL) by kill", kill)),
    ]
}

fn shown(call: Call) -> String {
    match call {
        Call::Mail(mail) => {
            let text = String::from_utf8(mail.bytes).unwrap();
            let lines = text.lines().map(str::trim_end);
            let plain: Vec<&str> = lines
                .clone()
                .filter(|line| {
                    ["From:", "To:", "Subject:", "Message-ID", "In-Reply-To"]
                        .iter()
                        .any(|it| line.starts_with(it))
                })
                .filter(|line| !line.starts_with("Message-ID: <c0ffee00-i1."))
                .collect();
            let body = text
                .split("text/plain")
                .nth(1)
                .and_then(|part| part.split_once("\r\n\r\n"))
                .map(|(_, body)| body);
            let body = body.unwrap_or_default().split("\r\n--").next().unwrap_or_default();
            let body = body.replace("=\r\n", "").replace("\r\n", "\n");
            format!("```text\n{}\n\n{}\n```\n\n", plain.join("\n"), timeless(body.trim_end()))
        }
        Call::Request(request) => {
            let mut body = json(&request);
            if body["payload"]["timestamp"].is_string() {
                body["payload"]["timestamp"] = Value::from("2026-01-31T03:00:00.000Z");
            }
            if body["routing_key"].is_string() {
                body["routing_key"] = Value::from("…");
            }
            let url = request.url.as_str().split('?').next().unwrap_or_default().replace("1:bot", "…");
            let text = timeless(&serde_json::to_string_pretty(&body).unwrap());
            format!("```text\n{} {url}\n{text}\n```\n\n", request.method)
        }
    }
}

#[test]
fn docs_alerts_shows_the_messages_as_they_are() {
    let expected = format!("{}\n", page().trim_end());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PATH, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(found == expected, "docs/alerts.md is out of date: run this test with UPDATE_DOCS=1");
}
