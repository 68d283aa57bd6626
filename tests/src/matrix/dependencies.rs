//! What a service depends on fails: the cause is acted on, and the service only if it does not heal with it.

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{PATIENCE, Scene, Service},
};
use crate::{
    http::{self, free_port},
    incident_events::{is, text},
    parts::{Redis, built, require, require_root},
    process::{signal, until},
};
use rustix::process::Signal;
use serde_json::Value;

const APP: &str = "app";
const CACHE: &str = "cache";

/// How long Redis takes to start, in milliseconds: long enough for the application to be seen failing.
const REDIS_START_MS: &str = "1500";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "9a",
        fault: "Redis dies under the web app (declared)",
        verdicts: &["dependency_down"],
        action: "restart Redis only, one alert",
        run: |row| redis_dies(row, DECLARED),
    },
    Row {
        number: "9b",
        fault: "Redis dies under the web app (learned)",
        verdicts: &["dependency_down"],
        action: "restart Redis only, one alert",
        run: |row| redis_dies(row, ""),
    },
    Row {
        number: "10",
        fault: "Redis back, app does not heal",
        verdicts: &["dependency_down", "unhealed"],
        action: "restart the app once",
        run: app_does_not_heal,
    },
];

const DECLARED: &str = "depends_on = [\"cache\"]";

/// The web application and its Redis.
struct Stack {
    scene: Scene,
    app: u16,
    _folder: tempfile::TempDir,
}

impl Stack {
    fn start(keys: &str, further: &[&str]) -> Option<Self> {
        if !require_root() || !require("redis-server", Redis::PROGRAM) {
            return None;
        }
        let (app, redis) = (free_port(), free_port());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cache = vec![built("delayed_start").display().to_string(), REDIS_START_MS.to_owned()];
        cache.extend(Redis::command(redis, folder.path()));
        let mut command = vec![built("app").display().to_string()];
        command.extend(["--port", &app.to_string(), "--redis", &redis.to_string()].map(str::to_owned));
        command.extend(further.iter().map(|&word| word.to_owned()));
        // An application that never connects again has to come up after Redis, as an operator would have it.
        let waits = [built("delayed_start").display().to_string(), "2000".to_owned()];
        let command = if further.is_empty() { command } else { [waits.to_vec(), command].concat() };
        let policy = "enabled = true\nbudget = \"5 per 10m\"\nbackoff = \"100ms..2s\"\ngrace = \"3s\"";
        let services = [
            Service::exec(CACHE, &cache, redis)
                .probe(&format!("redis = \"redis://127.0.0.1:{redis}\""))
                .restart(policy),
            Service::exec(APP, &command, app).keys(keys).restart(policy),
        ];
        Some(Self { scene: Scene::start(&services), app, _folder: folder })
    }

    /// Waits until the application was asked and was well some more times.
    fn until_app_is_well(&self) {
        let well = || http::get(self.app, "/healthy").ok()?.1.parse::<u64>().ok();
        let before = until("the app counts", PATIENCE, well);
        until("the app is well again", PATIENCE, || well().filter(|&now| now >= before + 4));
    }
}

fn redis_dies(row: &Row, keys: &str) -> Option<Measured> {
    let stack = Stack::start(keys, &[])?;
    signal(stack.scene.pid(CACHE), Signal::KILL);
    stack.scene.event("the app's probe fails", |event| is(event, "probe.fail", APP));
    stack.scene.healed(CACHE);
    stack.until_app_is_well();
    stack.scene.more_probes();
    let held = stack.scene.daemon.since(stack.scene.mark).iter().any(holds_app);
    let alerts = Some(&[CACHE][..]);
    let expected =
        Expected { service: APP, restarts: &[(CACHE, 1, 1)], alerts, resolved: true, ..Expected::default() };
    let mut measured = stack.scene.judge(row, &expected);
    measured.expect(held, || "the incident of the cache does not name the app as held".to_owned());
    Some(measured)
}

/// Whether an event is of the cause's incident and says that the application is held because of it.
fn holds_app(event: &Value) -> bool {
    let held = crate::daemon::field(event, "incident.held").and_then(Value::as_array);
    text(event, "service.name") == CACHE && held.is_some_and(|held| held.iter().any(|name| name == APP))
}

fn app_does_not_heal(row: &Row) -> Option<Measured> {
    let stack = Stack::start(DECLARED, &["--once"])?;
    signal(stack.scene.pid(CACHE), Signal::KILL);
    stack.scene.event("the app's probe fails", |event| is(event, "probe.fail", APP));
    stack.scene.healed(CACHE);
    stack.scene.verdict(APP, "unhealed");
    stack.scene.healed(APP);
    stack.scene.more_probes();
    let expected = Expected {
        service: APP,
        restarts: &[(CACHE, 1, 1), (APP, 1, 1)],
        resolved: true,
        ..Expected::default()
    };
    Some(stack.scene.judge(row, &expected))
}
