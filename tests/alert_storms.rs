//! Fifty services crash at every start: a receiver gets the first alerts at once, then one summary a minute, and nothing fires
//! for ever.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    http,
    incident_events::text,
    matrix::receiver::Receiver,
    parts::{Alertmanager, require_root},
    process::until,
};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(150);

const SERVICES: usize = 50;

/// So many openings a minute go to a receiver at once.
const AT_ONCE: usize = 10;

/// Services that crash at every start as long as there is the file `crash`.
fn services(folder: &Path) -> String {
    let crash = folder.join("crash").display().to_string();
    let script = format!("[ -e {crash} ] && kill -SEGV $$; exec sleep 1000");
    let service = |number: usize| {
        format!(
            "[[service]]\nname = \"loop-{number}\"\nexec = [\"/bin/sh\", \"-c\", {script:?}]\noutput = \"/dev/null\"\n\
             [service.restart]\nbudget = \"1 per 1h\"\nbackoff = \"1s..1s\"\n"
        )
    };
    (0..SERVICES).map(service).collect()
}

fn active(alertmanager: &Alertmanager) -> Vec<Value> {
    let (status, body) = http::get(alertmanager.port, "/api/v2/alerts?active=true").expect("it answers");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("its answer is a list")
}

/// The firing alerts of this name.
fn named<'a>(alerts: &'a [Value], name: &str) -> Vec<&'a Value> {
    alerts.iter().filter(|alert| alert["labels"]["alertname"] == name).collect()
}

#[test]
fn fifty_crash_loops_are_ten_alerts_and_a_summary_and_all_of_it_is_resolved() {
    if !require_root() {
        return;
    }
    let Some(alertmanager) = Alertmanager::start() else { return };
    let (folder, receiver) = (tempfile::tempdir().expect("a temporary folder"), Receiver::start());
    let crash = folder.path().join("crash");
    fs::write(&crash, "").expect("a file");
    let config = format!(
        "[http]\nlisten = \"\"\n{}[[alert]]\nwebhook = {:?}\nformat = \"alertmanager\"\n{}\
         [restart]\nbudget = \"1000 per 1h\"\n",
        receiver.config(),
        alertmanager.alerts_url(),
        services(folder.path()),
    );
    let _daemon = Daemon::start(&config, &[]);
    let summaries = || -> Vec<Value> {
        receiver.posted().into_iter().filter(|alert| alert.get("summary").is_some()).collect()
    };
    let all = until("a summary names all other services", LONG, || {
        summaries().into_iter().find(|alert| alert["summary"]["open"] == SERVICES - AT_ONCE)
    });
    assert_eq!((text(&all, "status"), text(&all, "service.name")), ("firing", "hostprobe"));
    assert_eq!(all["summary"]["services"].as_array().map(Vec::len), Some(SERVICES - AT_ONCE));
    assert_eq!(text(&all, "incident.severity"), "critical");
    assert!(text(&all, "incident.id").ends_with("-i0"), "{all:#}");
    let alerts = until("Alertmanager has the storm", LONG, || {
        let alerts = active(&alertmanager);
        (!named(&alerts, "HostprobeStorm").is_empty()).then_some(alerts)
    });
    assert_eq!(named(&alerts, "HostprobeStorm").len(), 1, "{alerts:#?}");
    assert_eq!(named(&alerts, "HostprobeIncident").len(), AT_ONCE, "{alerts:#?}");
    let firing = receiver.posted().iter().filter(|alert| text(alert, "status") == "firing").count();
    assert!(firing <= 3 * AT_ONCE, "{firing} messages");

    // All start from now on.
    fs::remove_file(&crash).expect("it is there");
    until("nothing fires any more", LONG, || active(&alertmanager).is_empty().then_some(()));
    let end = until("the summary is resolved", LONG, || {
        summaries().into_iter().find(|alert| text(alert, "status") == "resolved")
    });
    assert_eq!(end["summary"]["open"], 0);
    let resolved = || {
        let is_end = |alert: &&Value| alert.get("summary").is_none() && text(alert, "status") == "resolved";
        receiver.posted().iter().filter(is_end).count()
    };
    until("each that got its opening gets its end", LONG, || (resolved() >= AT_ONCE).then_some(()));
    assert_eq!(resolved(), AT_ONCE, "none gets a second one");
}

#[test]
fn restarts_beyond_the_budget_of_all_services_wait_and_one_alert_says_so() {
    if !require_root() {
        return;
    }
    let (folder, receiver) = (tempfile::tempdir().expect("a temporary folder"), Receiver::start());
    let crash = folder.path().join("crash");
    fs::write(&crash, "").expect("a file");
    let config = format!(
        "[http]\nlisten = \"\"\n{}{}[restart]\nbudget = \"10 per 5s\"\n",
        receiver.config(),
        services(folder.path()),
    );
    let daemon = Daemon::start(&config, &[]);
    let begun = Instant::now();
    daemon.wait_for(
        |event| event_action(event) == "incident.open" && text(event, "service.name") == "hostprobe",
        LONG,
    );
    let storms = |status: &str| {
        let posted = receiver.posted();
        posted
            .iter()
            .filter(|alert| {
                text(alert, "incident.verdict") == "restart_storm" && text(alert, "status") == status
            })
            .count()
    };
    until("the storm is alerted", LONG, || (storms("firing") == 1).then_some(()));
    fs::remove_file(&crash).expect("it is there");
    until("the storm is over", LONG, || (storms("resolved") == 1).then_some(()));
    assert_eq!(storms("firing"), 1);
    // The stream is read beside the receiver.
    daemon.wait_for(
        |event| {
            event_action(event) == "incident.resolve" && text(event, "incident.verdict") == "restart_storm"
        },
        LONG,
    );
    let requested = daemon.count(|event| event_action(event) == "restart.request");
    assert!(requested >= SERVICES, "{requested} restarts");
    // The first ten did not wait, and each further ten waited for a window.
    assert!(begun.elapsed() >= Duration::from_secs(5 * 3), "{:?}", begun.elapsed());
}
