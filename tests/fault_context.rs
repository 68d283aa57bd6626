//! What explains a fault is in its incident: the last lines that the service logged, to its output or to the journal, and
//! what was changed before.

use std::{fs, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, field},
    incident_events::{is, text},
    installed::{Installed, UNIT},
    parts::{built, require, require_root},
    process::until,
    supervised::Supervised,
    systemd::SystemdLab,
};
use serde_json::{Value, json};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

fn has_logs(event: &Value, service: &str) -> bool {
    is(event, "incident.update", service) && field(event, "incident.logs").is_some()
}

#[test]
fn a_command_that_exits_shows_its_last_lines_and_what_was_changed_and_no_secret() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let (go, settings) = (service.folder().join("go"), service.folder().join("app.conf"));
    fs::write(&settings, "cheese = none").expect("the folder can be written");
    let script = format!(
        "seq 1 30; echo \"token $TOKEN is refused\"; printf '\\033[31mred\\n' >&2; until [ -e {} ]; do sleep 0.1; done; \
         echo out of cheese; exit 3",
        go.display()
    );
    // A next run would write to the same file before the last lines of this one are read.
    let config = format!(
        "[http]\nlisten = \"\"\n{}environment = {{ TOKEN = \"hunter2-hunter2\" }}\n[service.restart]\nenabled = false\n",
        service.service(&["/bin/sh", "-c", &script, &format!("--config={}", settings.display())])
    );
    let daemon = Daemon::start(&config, &[]);
    until("its output", LONG, || service.output().contains("red").then_some(()));
    let mark = daemon.mark();
    fs::write(&go, "").expect("the folder can be written");
    let update = daemon.wait_for_after(mark, |event| has_logs(event, &service.name), LONG);
    let logs = field(&update, "incident.logs").and_then(Value::as_array).expect("a list");
    assert_eq!((logs.len(), logs.last()), (20, Some(&json!("out of cheese"))), "{logs:#?}");
    let changes = field(&update, "incident.changes").and_then(Value::as_array).expect("a list");
    let of_script = format!("its file {} was changed ", service.folder().join("app.conf").display());
    let is_of_script = |it: &Value| it.as_str().is_some_and(|it| it.starts_with(&of_script));
    assert!(changes.iter().any(is_of_script), "{changes:#?}");
    let all = update.to_string();
    assert!(!all.contains("hunter2") && all.contains("is refused"), "{logs:#?}");
    let id = text(&update, "incident.id");
    let explain = std::process::Command::new(built("hostprobe"))
        .args(["explain", id, "--socket"])
        .arg(daemon.socket())
        .output()
        .expect("the command runs");
    let page = String::from_utf8_lossy(&explain.stdout);
    assert!(
        page.contains("changes:") && page.contains("last lines:") && page.contains("out of cheese"),
        "{page}"
    );
    assert!(!page.contains('\x1b') && !page.contains("hunter2"), "{page}");
}

#[test]
fn a_unit_that_dies_shows_what_its_last_run_wrote_to_the_journal() {
    if !require("polkitd", "/usr/lib/polkit-1/polkitd") {
        return;
    }
    let Some(systemd) = SystemdLab::for_test() else { return };
    systemd.start_journal().expect("the journal starts");
    // The journal has its words before it dies, however late it takes them in.
    let script = "echo run $$; until [ -e /run/go ]; do sleep 0.1; done; rm /run/go; echo out of cheese >&2; \
                  journalctl --sync; kill -SEGV $$";
    let unit = format!("[Service]\nExecStart=/bin/sh -c '{}'\nRestart=no\n", script.replace('$', "$$"));
    systemd.write_unit("api.service", &unit).expect("the unit is written");
    systemd.systemctl(&["start", "api.service"]).expect("the unit starts");
    let services = "[[service]]\nname = \"api\"\nunit = \"api.service\"\n[service.restart]\nenabled = true\n";
    let installed = Installed::new(systemd, services).expect("hostprobe is installed");
    let systemd = &installed.systemd;
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    for _ in 0..2 {
        let healthy =
            |event: &Value| is(event, "service.state", "api") && text(event, "service.state") == "healthy";
        installed.wait_for_after(0, "healthy service", healthy);
        let mark = installed.mark();
        let run = systemd.show("api.service", "MainPID").expect("it runs");
        fs::write(systemd.path("/run/go"), "").expect("it can be written");
        let update = installed.wait_for_after(mark, "the last lines", |event| has_logs(event, "api"));
        let logs = field(&update, "incident.logs").and_then(Value::as_array).expect("a list");
        let logged = |line: &str| logs.iter().any(|it| it == line);
        assert!(logged(&format!("run {run}")) && logged("out of cheese"), "{logs:#?}");
        let runs = logs.iter().filter_map(Value::as_str).filter(|line| line.starts_with("run ")).count();
        assert_eq!(runs, 1, "those of an earlier run are left out: {logs:#?}");
        installed.wait_for_after(mark, "the next run", |event| is(event, "incident.resolve", "api"));
    }
}
