//! A real Alertmanager gets each incident once, and its end; one that cannot be reached costs
//! its own alerts only.

use std::{net::TcpListener, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{IncidentEvents, is, listening_pid, median, number, text, wait_until_healthy},
    latch::Latch,
    parts::{Alertmanager, require_root},
    process::{kill, until},
    victim::Victim,
};
use serde_json::Value;
use tempfile::TempDir;

/// The service under test.
const API: &str = "api";

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// How often a service is killed to have a median. Twice as many openings within a minute go to a receiver one by one.
const KILLS: usize = 5;

/// How much later than with a receiver that listens a decision may come, in milliseconds: far less than the second that
/// passes before a delivery is tried again, and more than others may keep the processors.
const TOLERANCE: f64 = 100.0;

/// The victim under the built-in supervisor, and the receivers of its alerts.
struct Lab {
    daemon: Daemon,
    /// A started process serves no request before it is open.
    latch: Latch,
    _folder: TempDir,
}

impl Lab {
    /// Starts it with Alertmanagers on these ports.
    fn start(receivers: &[u16]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = Victim::program().display().to_string();
        let latch = Latch::new(folder.path());
        let script = format!("{}; exec {program} --port {port}", latch.script());
        let alerts: String = receivers
            .iter()
            .map(|port| {
                format!(
                    "[[alert]]\nwebhook = \"http://127.0.0.1:{port}/api/v2/alerts\"\nformat = \"alertmanager\"\n\
                     min_severity = \"info\"\n"
                )
            })
            .collect();
        let config = format!(
            r#"
            [http]
            listen = ""
            {alerts}
            [restart]
            budget = "1000 per 1h"
            [[service]]
            name = "{API}"
            exec = ["/bin/sh", "-c", "{script}"]
            output = "{output}"
            [[service.probe]]
            http = "http://127.0.0.1:{port}/health"
            [service.restart]
            budget = "1000 per 1h"
            "#,
            output = folder.path().join("log").display(),
        );
        let lab = Self { daemon: Daemon::start(&config, &[]), latch, _folder: folder };
        lab.daemon.ready();
        wait_until_healthy(&lab.daemon, API);
        lab
    }

    fn kill(&self) {
        kill(listening_pid(&self.daemon, API));
    }

    /// Kills the service several times, and waits each time until it is well again: the medians of when it was
    /// decided, and of when it was acted.
    fn kills(&self) -> (f64, f64) {
        let (mut decided, mut acted) = (Vec::new(), Vec::new());
        for _ in 0..KILLS {
            let mark = self.daemon.mark();
            self.kill();
            let incident = IncidentEvents::of(&self.daemon, mark, API);
            assert_eq!(incident.verdict(), "killed");
            incident.one("restart.request");
            decided.push(incident.millis("decided"));
            acted.push(incident.millis("acted"));
        }
        (median(decided), median(acted))
    }

    /// The alerts that were delivered, in order: incident, whether it is on or over, and tries.
    fn delivered(&self) -> Vec<(String, String, i64)> {
        let events = self.daemon.events();
        let delivered = events.iter().filter(|event| is(event, "alert.send", API)).map(|event| {
            let field = |name| text(event, name).to_owned();
            (field("incident.id"), field("alert.status"), number(event, "alert.attempts").unwrap_or_default())
        });
        delivered.collect()
    }

    fn wait_for_delivered(&self, count: usize) -> Vec<(String, String, i64)> {
        until(&format!("{count} alerts are delivered"), LONG, || {
            let delivered = self.delivered();
            (delivered.len() >= count).then_some(delivered)
        })
    }

    /// Each incident of the stream was delivered once as firing and once as resolved.
    #[track_caller]
    fn each_incident_was_told_once(&self) {
        let opened = self.daemon.events();
        let opened = opened.iter().filter(|event| is(event, "incident.open", API));
        let ids: Vec<String> = opened.map(|event| text(event, "incident.id").to_owned()).collect();
        let expected: Vec<_> =
            ids.iter().flat_map(|id| [(id.clone(), "firing"), (id.clone(), "resolved")]).collect();
        let delivered = self.delivered();
        let reported: Vec<_> =
            delivered.iter().map(|(id, status, _)| (id.clone(), status.as_str())).collect();
        assert_eq!(reported, expected);
    }
}

/// The firing alerts of an Alertmanager.
fn active(alertmanager: &Alertmanager) -> Vec<Value> {
    let (status, body) = http::get(alertmanager.port, "/api/v2/alerts?active=true").expect("it answers");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("its answer is a list")
}

/// How many alerts an Alertmanager was sent with this status.
fn received(alertmanager: &Alertmanager, status: &str) -> usize {
    let (_, metrics) = http::get(alertmanager.port, "/metrics").expect("it answers");
    let name = format!("alertmanager_alerts_received_total{{status=\"{status}\",version=\"v2\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
    count.and_then(|count| count.parse().ok()).expect("it counts")
}

#[test]
fn an_incident_that_lasts_is_an_active_alert_until_it_is_over() {
    if !require_root() {
        return;
    }
    let Some(alertmanager) = Alertmanager::start() else { return };
    let mut lab = Lab::start(&[alertmanager.port]);
    lab.latch.close();
    let mark = lab.daemon.mark();
    lab.kill();
    let sent = lab.daemon.wait_for_after(mark, |event| is(event, "alert.send", API), LONG);
    assert_eq!(text(&sent, "alert.status"), "firing");

    let alerts = active(&alertmanager);
    let [alert] = &alerts[..] else { panic!("one alert, not {alerts:#?}") };
    assert_eq!(alert["labels"]["alertname"], "HostprobeIncident");
    assert_eq!(alert["labels"]["service"], API);
    assert_eq!(alert["labels"]["verdict"], "killed");
    assert_eq!(alert["labels"]["severity"], "critical");
    assert_eq!(alert["status"]["state"], "active");
    let open = lab.daemon.wait_for_after(mark, |event| is(event, "incident.open", API), LONG);
    assert_eq!(alert["annotations"]["incident"], text(&open, "incident.id"));
    assert_eq!(alert["annotations"]["summary"], text(&open, "incident.summary"));

    lab.latch.open();
    let incident = IncidentEvents::of(&lab.daemon, mark, API);
    assert_eq!(incident.verdict(), "killed");
    incident.one("restart.request");
    until("the alert is over", LONG, || active(&alertmanager).is_empty().then_some(()));
    lab.wait_for_delivered(2);
    lab.daemon.stop();
    lab.each_incident_was_told_once();
    assert_eq!((received(&alertmanager, "firing"), received(&alertmanager, "resolved")), (1, 1));
}

#[test]
fn a_receiver_that_is_down_delays_nothing_and_gets_the_alert_once_it_is_up() {
    if !require_root() {
        return;
    }
    let Some(mut alertmanager) = Alertmanager::start() else { return };
    let mut lab = Lab::start(&[alertmanager.port]);
    let up = lab.kills();
    lab.wait_for_delivered(2 * KILLS);
    assert_eq!((received(&alertmanager, "firing"), received(&alertmanager, "resolved")), (KILLS, KILLS));

    alertmanager.process.stop();
    let down = lab.kills();
    println!(
        "decided, acted: {up:.2?} ms with the receiver up, {down:.2?} ms with it down (medians of {KILLS})"
    );
    assert!(down.0 <= up.0 + TOLERANCE && down.1 <= up.1 + TOLERANCE, "{up:?} ms up, {down:?} ms down");
    lab.daemon.wait_for(|event| is(event, "alert.fail", API), LONG);

    let Some(alertmanager) = Alertmanager::start_on(alertmanager.port) else { return };
    let delivered = lab.wait_for_delivered(4 * KILLS);
    let (_, _, attempts) = &delivered[2 * KILLS];
    assert!(*attempts > 1, "the first of the outage was tried before: {delivered:?}");
    assert_eq!((received(&alertmanager, "firing"), received(&alertmanager, "resolved")), (KILLS, KILLS));
    assert!(active(&alertmanager).is_empty());
    lab.daemon.stop();
    lab.each_incident_was_told_once();
    let fails = lab.daemon.count(|event| is(event, "alert.fail", API));
    assert_eq!(fails, 1, "one outage, one complaint");
}

#[test]
fn a_receiver_that_never_answers_delays_neither_recovery_nor_the_other_receiver() {
    if !require_root() {
        return;
    }
    let Some(alertmanager) = Alertmanager::start() else { return };
    // The kernel takes connections for it, and no process ever serves them.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let mut lab = Lab::start(&[silent.local_addr().expect("an address").port(), alertmanager.port]);
    let (decided, acted) = lab.kills();
    println!("decided {decided:.2} ms, acted {acted:.2} ms beside a receiver that never answers");
    lab.wait_for_delivered(2 * KILLS);
    lab.daemon.stop();
    lab.each_incident_was_told_once();
    assert_eq!((received(&alertmanager, "firing"), received(&alertmanager, "resolved")), (KILLS, KILLS));
}
