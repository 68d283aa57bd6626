//! A job under a systemd timer reports in, as the units in `docs/examples` have it, and its missing report alerts.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use hostprobe_tests::{
    incident_events::{is, text},
    installed::{Installed, UNIT},
    matrix::receiver::Receiver,
    process::until,
    systemd::SystemdLab,
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const EXAMPLE: &str = include_str!("../docs/examples/hostprobe.toml");
const SERVICE: &str = include_str!("../docs/examples/systemd/backup.service");
const TIMER: &str = include_str!("../docs/examples/systemd/backup.timer");

/// The job, which a test makes fail.
const JOB: &str = "#!/bin/sh\nexec test ! -e /run/backup-fails\n";

/// Every second instead of every night.
const OFTEN: &str = "[Timer]\nOnCalendar=\nRandomizedDelaySec=0\nPersistent=no\nOnActiveSec=1s\nOnUnitActiveSec=1s\n\
                     AccuracySec=10ms\n";

/// The heartbeat of the example, in seconds instead of hours.
fn heartbeat() -> String {
    let at = EXAMPLE.find("[[service]]\nname = \"backup\"").expect("the example has the job");
    let text = EXAMPLE[at..]
        .replace("every = \"24h\"", "every = \"10s\"")
        .replace("grace = \"1h\"", "grace = \"2s\"");
    assert!(text.contains("\"10s\"") && text.contains("\"2s\""), "{text}");
    format!("{text}interval = \"500ms\"\n")
}

/// Waits until the job's silence is an incident and an alert.
#[track_caller]
fn is_missed(installed: &Installed, receiver: &Receiver, mark: usize, alerts: usize) {
    let fail = installed.wait_for_after(mark, "missed report", |event| is(event, "probe.fail", "backup"));
    assert_eq!((text(&fail, "probe.type"), text(&fail, "probe.error")), ("heartbeat", "silent"), "{fail:#}");
    let open = installed.wait_for_after(mark, "incident", |event| is(event, "incident.open", "backup"));
    println!("{}", text(&open, "incident.summary"));
    assert_eq!(text(&open, "incident.verdict"), "unhealthy", "{open:#}");
    let alerted = || receiver.firing().iter().filter(|(service, _)| service == "backup").count();
    until("an alert", LONG, || (alerted() == alerts).then_some(()));
}

#[test]
fn a_timers_job_reports_in_and_its_missing_report_alerts() {
    let Some(systemd) = SystemdLab::for_test() else { return };
    let receiver = Receiver::start();
    let services = format!("{}{}", receiver.config(), heartbeat());
    let installed = Installed::new(systemd, &services).expect("hostprobe is installed");
    let systemd = &installed.systemd;
    let program = systemd.path("/usr/local/bin/backup");
    fs::write(&program, JOB).expect("the job is written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode is set");
    fs::create_dir_all(systemd.path("/etc/systemd/system/backup.timer.d")).expect("a folder");
    for (name, unit) in
        [("backup.service", SERVICE), ("backup.timer", TIMER), ("backup.timer.d/often.conf", OFTEN)]
    {
        systemd.write_unit(name, unit).expect("the unit is written");
    }
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    systemd.systemctl(&["start", "backup.timer"]).expect("the timer starts");

    let healthy =
        |event: &Value| is(event, "service.state", "backup") && text(event, "service.state") == "healthy";
    installed.wait_for_after(0, "report", healthy);
    // The job has run more often than one missing report needs.
    let runs = || systemd.show("backup.service", "InvocationID").expect("systemd answers");
    let mut last = runs();
    for _ in 0..6 {
        last = until("the job runs again", LONG, || Some(runs()).filter(|run| *run != last));
    }
    let opened = installed.events().into_iter().find(|event| is(event, "incident.open", "backup"));
    assert_eq!(opened, None, "{}", installed.status());

    // The job fails: systemd does not run what reports in.
    let mark = installed.mark();
    let flag = systemd.path("/run/backup-fails");
    fs::write(&flag, "").expect("the flag is written");
    is_missed(&installed, &receiver, mark, 1);
    // Between two runs of the timer.
    let has_failed = || (systemd.show("backup.service", "Result").ok()? == "exit-code").then_some(());
    until("the job has failed", LONG, has_failed);
    let mark = installed.mark();
    fs::remove_file(&flag).expect("the flag is removed");
    installed.wait_for_after(mark, "end", |event| is(event, "incident.resolve", "backup"));

    // The job is not started any more, and so it does not fail either.
    let mark = installed.mark();
    systemd.systemctl(&["stop", "backup.timer"]).expect("the timer stops");
    is_missed(&installed, &receiver, mark, 2);
    let restarts =
        installed.events().into_iter().filter(|event| is(event, "restart.request", "backup")).count();
    assert_eq!(restarts, 0);
}
