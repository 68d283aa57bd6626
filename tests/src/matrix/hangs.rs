//! Services that live and do not answer, or too late.

use rustix::process::Signal;

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{Scene, Service},
};
use crate::{
    http::{self, free_port},
    incident_events::{is, text},
    parts::require_root,
    process::signal,
};

const API: &str = "api";

pub(super) const ROWS: &[Row] = &[
    Row { number: "6", fault: "SIGSTOP", verdicts: &["hung"], action: "snapshot, restart", run: stopped },
    Row {
        number: "7",
        fault: "accepts, never answers",
        verdicts: &["hung"],
        action: "snapshot, restart",
        run: never_answers,
    },
    Row {
        number: "19",
        fault: "answers in 3 s, limit 2 s",
        verdicts: &["slow"],
        action: "degraded, alert",
        run: slow,
    },
];

fn stopped(row: &Row) -> Option<Measured> {
    hung(row, |scene, _| signal(scene.pid(API), Signal::STOP))
}

fn never_answers(row: &Row) -> Option<Measured> {
    hung(row, |_, port| drop(http::get(port, "/hang")))
}

fn hung(row: &Row, fault: impl FnOnce(&Scene, u16)) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let snapshots = format!("[snapshots]\ndirectory = {:?}\n", folder.path().display().to_string());
    let scene = Scene::start_with(&[Service::victim(API, port)], &snapshots, |command| command);
    fault(&scene, port);
    scene.healed(API);
    scene.more_probes();
    let events = scene.daemon.since(scene.mark);
    let over = events.iter().rev().find(|event| is(event, "incident.resolve", API));
    let snapshot = over.map(|event| text(event, "incident.snapshot").to_owned()).unwrap_or_default();
    let expected = Expected { service: API, restarts: &[(API, 1, 1)], resolved: true, ..Expected::default() };
    let mut measured = scene.judge(row, &expected);
    let kept = std::fs::read_to_string(&snapshot).unwrap_or_default();
    measured.expect(kept.contains("victim"), || {
        format!("the snapshot {snapshot:?} is not there or says nothing")
    });
    Some(measured)
}

fn slow(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let port = free_port();
    let times = "interval = \"250ms\"\ntimeout = \"5s\"\nfailures = 2\nslow = \"2s\"";
    let scene = Scene::start(&[Service::victim(API, port).times(times)]);
    let _ = http::get(port, "/slow?ms=3000");
    let found = scene.verdict(API, "slow");
    if found.is_some() {
        scene.until_state(API, "degraded");
    }
    scene.more_probes();
    let _ = http::get(port, "/slow?ms=0");
    if found.is_some() {
        scene.healed(API);
    }
    scene.more_probes();
    let (alerts, aside) = (Some(&[API][..]), &["overloaded"]);
    let expected = Expected { service: API, alerts, aside, resolved: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}
