//! `hostprobe report`: how available services were, and how their incidents went.

use std::{path::Path, process::Command, time::Duration};

use hostprobe_tests::{
    browser::{Browser, axe},
    daemon::Daemon,
    http::free_port,
    incident_events::is,
    operator::{Home, ask, becomes, said},
    parts::require_root,
    simulated_day::SimulatedDay,
    supervised::Supervised,
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

#[track_caller]
fn in_json(config: &Path, words: &[&str]) -> Value {
    let output = ask(config, &[words, &["--json"]].concat());
    serde_json::from_str(&said(&output)).expect("JSON")
}

#[test]
fn a_day_that_was_recorded_is_reported_in_text() {
    let day = SimulatedDay::new();
    let replayed = said(&ask(&day.config, &["replay", day.recording.to_str().expect("UTF-8")]));
    assert!(replayed.ends_with("same: everything is decided as it was then\n"), "{replayed}");

    let report = said(&ask(&day.config, &["report", "--since", "24h"]));
    let expected = format!(
        "\
the daemon does not run; this is from {}
{} to {} UTC, 24.0 h

SERVICE  AVAILABILITY       DOWN   DEGRADED    PLANNED  NOT OBSERVED
cache         99.29 %   10.0 min          -   20.0 min       5.1 min
db            99.97 %     20.5 s    2.8 min   15.0 min       5.0 min
web          99.998 %      1.0 s          -   30.0 min       5.0 min

Not counted
  cache    stopped 20.0 min, starting or unknown 3.5 s
  db       in maintenance 15.0 min, starting or unknown 2.0 s
  web      paused 30.0 min

                          TIME TO DETECT             TIME TO RECOVER
SERVICE  INCIDENTS     MEDIAN        P95     N     MEDIAN        P95  RESTARTS   HELD
cache            1     0.2 ms     0.2 ms     0          -          -         0      1
db               2     20.0 s     20.0 s     2     20.5 s    2.8 min         1      0
web              2     0.2 ms     0.2 ms     2     500 ms   20.0 min         2      1

Verdicts
  cache    exited 1
  db       slow 1, unhealthy 1
  web      killed 2

Open incidents
  cache    exited           since {}  bbbbbbbb-i2

Slowest recoveries
  web      killed            20.0 min  {}  aaaaaaaa-i3
  db       slow               2.8 min  {}  bbbbbbbb-i1
  db       unhealthy           20.5 s  {}  aaaaaaaa-i2
  web      killed              500 ms  {}  aaaaaaaa-i1
",
        day.folder.path().join("state/state.db").display(),
        day.at(0, 0, 0),
        day.at(24, 0, 0),
        day.at(23, 50, 0),
        day.at(12, 10, 0),
        day.at(22, 0, 10),
        day.at(9, 30, 10),
        day.at(3, 12, 0),
    );
    assert_eq!(report, expected);
}

#[test]
fn a_day_that_was_recorded_is_reported_in_json() {
    let day = SimulatedDay::new();
    let at = |hours, minutes, seconds, millis: u32| {
        format!("{}.{millis:03}Z", day.at(hours, minutes, seconds).replace(' ', "T"))
    };
    let report = in_json(&day.config, &["report", "--since", "24h", "--service", "web"]);
    let expected = json!({
        "from": at(0, 0, 0, 0),
        "to": at(24, 0, 0, 0),
        "services": [{
            "service": "web",
            "availability": 84_298_003_800.0 / 84_299_004_000.0,
            "time_ms": {
                "healthy": 84_298_003.8,
                "degraded": 0.0,
                "down": 1000.2,
                "stopped": 0.0,
                "paused": 1_800_000.0,
                "maintenance": 0.0,
                "drilled": 0.0,
                "unknown": 996.0,
                "not_observed": 300_000.0,
            },
            "probes": { "made": 2816, "failed": 0 },
            "incidents": { "total": 2, "by_verdict": { "killed": 2 }, "open": [] },
            "time_to_detect": { "count": 2, "median_ms": 0.2, "p95_ms": 0.2, "max_ms": 0.2 },
            "time_to_recover":
                { "count": 2, "median_ms": 500.2, "p95_ms": 1_200_250.0, "max_ms": 1_200_250.0 },
            "restarts": { "done": 2, "failed": 0, "held": 1 },
            "slowest_recoveries": [
                { "id": "aaaaaaaa-i3", "verdict": "killed", "since": at(12, 10, 0, 250), "took_ms": 1_200_250.0 },
                { "id": "aaaaaaaa-i1", "verdict": "killed", "since": at(3, 12, 0, 250), "took_ms": 500.2 },
            ],
        }],
        "drills": [],
    });
    assert_eq!(report, expected, "{report:#}");

    let all = in_json(&day.config, &["report", "--since", "24h"]);
    let cache = &all["services"][0];
    let open = json!([{ "id": "bbbbbbbb-i2", "verdict": "exited", "since": at(23, 50, 0, 250) }]);
    assert_eq!((&cache["incidents"]["open"], cache.get("time_to_recover")), (&open, None));
    for service in all["services"].as_array().expect("services") {
        let times = service["time_ms"].as_object().expect("times").values().filter_map(Value::as_f64);
        assert!((times.sum::<f64>() - 86_400_000.0).abs() < 0.01, "each moment counts once: {service:#}");
    }
    // The last hour has the open incident alone.
    let hour = in_json(&day.config, &["report", "--since", "1h"]);
    assert_eq!(hour["from"], at(23, 0, 0, 0));
    let incidents = |at: usize| &hour["services"][at]["incidents"]["total"];
    assert_eq!([incidents(0), incidents(1), incidents(2)], [1, 0, 0]);
}

/// The milliseconds of a service in each class together, and those in which it was down.
fn times(report: &Value) -> (f64, f64) {
    let times = &report["services"][0]["time_ms"];
    let ms = |class: &str| times[class].as_f64().expect("milliseconds");
    let watched = ["healthy", "degraded", "down", "stopped", "paused", "maintenance", "unknown"];
    (watched.into_iter().map(ms).sum(), ms("down"))
}

#[test]
fn the_outages_of_a_daemons_runs_are_reported_while_it_runs_and_after_it() {
    if !require_root() {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let (text, name) = (home.supervising(&service), service.name.as_str());
    let config = home.path("hostprobe.toml");
    std::fs::write(&config, &text).expect("the configuration is written");
    assert_eq!(ask(&config, &["report"]).status.code(), Some(3), "there is neither a daemon nor a file");

    let mut before = (0.0, 0.0);
    for run in 1..=3_u32 {
        let mut daemon = Daemon::start(&text, &[]);
        service.until_healthy(&daemon);
        let mark = daemon.mark();
        service.kill(&daemon);
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), PATIENCE);
        daemon.wait_for_after(mark, becomes(name, "healthy"), PATIENCE);
        daemon.wait_for_after(mark, |event| is(event, "restart.done", name), PATIENCE);
        let incidents = |report: &Value| report["services"][0]["incidents"]["by_verdict"]["killed"].clone();
        assert_eq!(ask(&config, &["report", "--service", "nothing"]).status.code(), Some(1));
        assert!(daemon.stop().success(), "{}", daemon.log());

        let output = ask(&config, &["report", "--since", "1h", "--json"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("the daemon does not run; this is from "));
        let report: Value = serde_json::from_str(&said(&output)).expect("JSON");
        let web = &report["services"][0];
        assert_eq!((&web["service"], incidents(&report)), (&name.into(), run.into()), "{report:#}");
        assert_eq!((&web["restarts"]["done"], &web["time_to_recover"]["count"]), (&run.into(), &run.into()));
        let availability = web["availability"].as_f64().expect("a share");
        assert!(availability > 0.0 && availability < 1.0, "{report:#}");
        let (watched, down) = times(&report);
        let slowest = web["time_to_recover"]["max_ms"].as_f64().expect("milliseconds");
        assert!(down > before.1 && watched > before.0, "a run adds to what there is: {report:#}");
        assert!(down - before.1 <= slowest + 1000.0, "an outage counts once: {report:#}");
        before = (watched, down);
    }
    let page = said(&ask(&config, &["report", "--service", name]));
    assert!(page.starts_with("the daemon does not run; this is from "), "{page}");
    assert!(page.contains("killed 3") && page.contains(name), "{page}");
    let unknown = ask(&config, &["report", "--service", "nothing"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no records of a service \"nothing\""));
    assert_eq!(ask(&config, &["report", "--since", "soon"]).status.code(), Some(2));

    // A daemon that runs answers from the same file.
    let daemon = Daemon::start(&text, &[]);
    daemon.ready();
    let live = in_json(&config, &["report", "--since", "1h"]);
    assert_eq!(live["services"][0]["incidents"]["total"], 3, "{live:#}");
}

#[test]
fn a_daemon_that_recorded_nothing_says_so() {
    if !require_root() {
        return;
    }
    let home = Home::new();
    let daemon = Daemon::start(&home.config(""), &[]);
    daemon.ready();
    let page = home.done(&["report"]);
    assert!(page.ends_with("UTC, 30.0 d\nnothing was recorded in this time\n"), "{page}");
}

/// A service whose name is markup in a browser, and words that are text on the page of a report.
const HOSTILE: &str = "<img/src=x/onerror=window.hacked=1>";

#[test]
fn a_report_is_a_page_that_asks_nothing_and_obeys_no_name() {
    let day = SimulatedDay::new();
    let (file, hostile) = (day.folder.path().join("report.html"), day.folder.path().join("hostile.html"));
    let write = |file: &Path| {
        let said =
            said(&ask(&day.config, &["report", "--since", "24h", "--html", file.to_str().expect("UTF-8")]));
        assert_eq!(said, "");
    };
    write(&file);
    let page = std::fs::read_to_string(&file).expect("UTF-8");
    let printed = said(&ask(&day.config, &["report", "--since", "24h", "--html", "-"]));
    assert!(printed.starts_with("<!doctype html>") && printed.ends_with("</html>\n"));
    // Names of services hold no markup, but a state file that someone changed may.
    let changed = Command::new("/usr/bin/python3")
        .args(["-c", RENAME, HOSTILE])
        .arg(day.folder.path().join("state/state.db"))
        .output();
    let changed = changed.expect("python runs");
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    write(&hostile);

    let Some(browser) = Browser::open(free_port()) else { return };
    let Some(axe) = axe() else { return };
    for (width, scheme) in [(1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")] {
        browser.dress(width, 900, scheme);
        for (file, name) in [(&file, "web"), (&hostile, HOSTILE)] {
            browser.visit(&format!("file://{}", file.display()));
            browser.until_it_shows(&[
                "Availability",
                "Before and after",
                "Restarts avoided by holds",
                "20.0 min",
                name,
            ]);
            let harm = browser.run(
                "return [window.hacked ?? null, document.querySelectorAll('img, script').length,
                    performance.getEntriesByType('resource').length]",
            );
            assert_eq!(harm, json!([null, 0, 0]), "{name}");
            assert_eq!(browser.log(), [""; 0]);
            let wide = browser.run("return document.documentElement.scrollWidth - innerWidth");
            assert_eq!(wide.as_f64().map(|it| it <= 0.0), Some(true), "{name} is wider than {width}: {wide}");
        }
        // The policy of the page lets no script of a page run; the driver's are not of it.
        browser.visit(&format!("file://{}", file.display()));
        let found = browser.barriers(&axe);
        assert_eq!(found, json!([]), "{width} {scheme}: {found:#}");
    }
    browser.devtools("Emulation.setEmulatedMedia", &json!({ "media": "print" }));
    let back = browser.run("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(back, json!("rgb(255, 255, 255)"), "paper is white");
    for word in ["99.29 %", "500 ms", "10 to 30 min", "killed"] {
        assert!(page.contains(word), "{word} is not in {page}");
    }
    assert!(page.len() < 60_000, "{} bytes", page.len());
}

/// Gives a service another name in all tables of the state file that have one.
const RENAME: &str = "
import sqlite3, sys
name, file = sys.argv[1:]
database = sqlite3.connect(file)
for (table,) in database.execute('select name from sqlite_master where type = ?', ('table',)).fetchall():
    columns = [column[1] for column in database.execute(f'pragma table_info({table})')]
    if 'service' in columns:
        database.execute(f'update {table} set service = ? where service = ?', (name, 'cache'))
database.commit()
";
