//! Who stopped, restarted or killed a service: named with its user, its login, its terminal and what started it, with the
//! hooks and without them.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, Mark, field},
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    parts::{require, require_root},
    podman::Podman,
    process::lives,
    systemd::SystemdLab,
    terminal,
    victim::Victim,
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const UNIT: &str = "api.service";

/// The arguments of a daemon with all its hooks, and without any.
const HOOKS: &[&str] = &[];
const FALLBACK: &[&str] = &["--without-hook", "all"];

/// A victim as a unit of a real systemd, and a daemon that watches it.
struct Lab {
    daemon: Daemon,
    systemd: SystemdLab,
}

impl Lab {
    fn start(arguments: &[&str]) -> Option<Self> {
        let systemd = SystemdLab::for_test()?;
        let port = free_port();
        let program = systemd.install(&Victim::program()).expect("the victim is installed");
        // Without hooks a command is known while it runs, and systemctl waits for the end of the service.
        let stop = if arguments == FALLBACK { "ExecStop=/bin/sleep 1\n" } else { "" };
        systemd
            .write_unit(
                UNIT,
                &format!(
                    "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart={program} --port {port}\n{stop}"
                ),
            )
            .expect("the unit is written");
        systemd.systemctl(&["start", UNIT]).expect("the unit starts");
        let config = format!(
            "[http]\nlisten = \"\"\n[[service]]\nname = \"api\"\nunit = \"{UNIT}\"\n[[service.probe]]\n\
             http = \"http://127.0.0.1:{port}/health\"\ninterval = \"200ms\"\n[service.restart]\nenabled = true\n"
        );
        let bus = systemd.bus_address();
        let daemon =
            Daemon::start_with(&config, arguments, |command| command.env("DBUS_SYSTEM_BUS_ADDRESS", bus));
        daemon.ready();
        wait_until_healthy(&daemon, "api");
        Some(Self { daemon, systemd })
    }

    /// The reason of the first change to this state.
    #[track_caller]
    fn reason(&self, mark: Mark, state: &str) -> String {
        let such = |event: &Value| is(event, "service.state", "api") && text(event, "service.state") == state;
        text(&self.daemon.wait_for_after(mark, such, LONG), "event.reason").to_owned()
    }

    #[track_caller]
    fn has_no_incident(&self) {
        assert_eq!(self.daemon.count(|event| is(event, "incident.open", "api")), 0);
    }
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_stop_typed_at_a_terminal_names_the_user_the_terminal_and_the_command() {
    if !terminal::is_there() {
        return;
    }
    for arguments in [HOOKS, FALLBACK] {
        let Some(lab) = Lab::start(arguments) else { return };
        let mut shell = terminal::Shell::open();
        let mark = lab.daemon.mark();
        shell.types(&lab.systemd.command_line("/usr/bin/systemctl stop api"));
        let why = lab.reason(mark, "stopped");
        has(&why, &["stopped by uid 0 (root) on pts/", "/usr/bin/systemctl stop api (pid ", "started by "]);
        lab.has_no_incident();
    }
}

#[test]
fn a_stop_by_another_user_names_the_login_behind_it() {
    if !terminal::is_there() {
        return;
    }
    let Some(lab) = Lab::start(HOOKS) else { return };
    // The real user of a program that runs with the rights of root, as after `sudo`.
    let inside = lab.systemd.command_line("/usr/bin/systemctl stop api.service");
    let mut shell = terminal::Shell::open();
    shell.types("echo 65534 > /proc/self/loginuid");
    let mark = lab.daemon.mark();
    shell.types(&format!("setpriv --ruid=65534 {inside}"));
    let why = lab.reason(mark, "stopped");
    has(&why, &["stopped by uid 65534 (nobody) on pts/", "/usr/bin/systemctl stop api.service"]);
    lab.systemd.systemctl(&["start", UNIT]).expect("it starts");
    lab.reason(mark, "healthy");

    let mark = lab.daemon.mark();
    shell.types(&inside);
    has(&lab.reason(mark, "stopped"), &["stopped by uid 0 (root), logged in as uid 65534 (nobody), on pts/"]);
    lab.has_no_incident();
}

#[test]
fn a_caller_of_the_bus_is_named() {
    let Some(lab) = Lab::start(HOOKS) else { return };
    let mark = lab.daemon.mark();
    let called = lab
        .systemd
        .command("/usr/bin/busctl")
        .args(["call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"])
        .args(["org.freedesktop.systemd1.Manager", "StopUnit", "ss", UNIT, "replace"])
        .stdout(Stdio::null())
        .status();
    assert!(called.is_ok_and(|status| status.success()), "busctl is answered");
    let why = lab.reason(mark, "stopped");
    has(&why, &["stopped by uid 0 (root): /usr/bin/busctl call ", "StopUnit ss api.service replace"]);
    assert!(!why.contains(" on pts/"), "{why}");
    lab.has_no_incident();
}

#[test]
fn a_stop_by_a_program_that_calls_the_bus_itself_is_by_nobody_known() {
    let Some(lab) = Lab::start(HOOKS) else { return };
    let mark = lab.daemon.mark();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let systemd = hostprobe::act::systemd::Systemd::connect_to(&lab.systemd.bus_address())
            .await
            .expect("the bus answers");
        systemd.stop_and_wait(UNIT, LONG).await.expect("it stops")
    });
    has(&lab.reason(mark, "stopped"), &["it is not known who asked: no command was seen"]);
}

#[test]
fn a_kill_from_a_shell_names_the_shell_its_terminal_and_its_user() {
    if !terminal::is_there() {
        return;
    }
    let Some(lab) = Lab::start(HOOKS) else { return };
    let mark = lab.daemon.mark();
    let pid = lab.systemd.host_main_pid(UNIT).expect("it runs");
    terminal::run(&format!("bash -c \"kill -9 {pid}; sleep 2\""));
    let update =
        |event: &Value| is(event, "incident.open", "api") && field(event, "incident.actor").is_some();
    let opened = lab.daemon.wait_for_after(mark, update, LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    has(
        text(&opened, "incident.actor.text"),
        &["uid 0 (root) on pts/", &format!("bash -c kill -9 {pid}; sleep 2 (pid ")],
    );
    assert_eq!(text(&opened, "incident.actor.user.name"), "root");
    has(text(&opened, "incident.actor.terminal"), &["pts/"]);
    let explain = Command::new(hostprobe_tests::parts::built("hostprobe"))
        .args(["explain", text(&opened, "incident.id"), "--socket"])
        .arg(lab.daemon.socket())
        .output()
        .expect("the command runs");
    has(&String::from_utf8_lossy(&explain.stdout), &["by:", "kill -9"]);
}

#[test]
fn a_kill_program_that_has_ended_is_named_by_its_own_words() {
    let Some(lab) = Lab::start(HOOKS) else { return };
    let mark = lab.daemon.mark();
    let pid = lab.systemd.host_main_pid(UNIT).expect("it runs");
    let killed = Command::new("/bin/kill").args(["-KILL", &pid.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()), "it lives");
    let opened = lab.daemon.wait_for_after(mark, |event| is(event, "incident.open", "api"), LONG);
    has(text(&opened, "incident.actor.text"), &[&format!("/bin/kill -KILL {pid} (pid "), "started by "]);
}

#[test]
fn a_script_that_restarts_a_unit_in_a_loop_is_an_incident_with_its_name() {
    for arguments in [HOOKS, FALLBACK] {
        let Some(lab) = Lab::start(arguments) else { return };
        let script = lab.systemd.path("/usr/local/bin/nightly.sh");
        fs::write(&script, "#!/bin/sh\n/usr/bin/systemctl restart api.service\nexit 0\n")
            .expect("it is written");
        let mut mark = lab.daemon.mark();
        for nth in 1..=4 {
            let before = lab.systemd.host_main_pid(UNIT).expect("it runs");
            mark = lab.daemon.mark();
            let run = lab.systemd.command("/bin/sh").arg("/usr/local/bin/nightly.sh").status();
            assert!(run.is_ok_and(|status| status.success()), "the script runs");
            assert!(!lives(before), "it was restarted");
            if nth < 4 {
                lab.has_no_incident();
                let state = |event: &Value| {
                    is(event, "service.state", "api")
                        && text(event, "event.reason").contains("restarted by uid 0")
                };
                has(text(&lab.daemon.wait_for_after(mark, state, LONG), "event.reason"), &["nightly.sh"]);
                lab.reason(mark, "healthy");
            }
        }
        let opened = lab.daemon.wait_for_after(mark, |event| is(event, "incident.open", "api"), LONG);
        assert_eq!(text(&opened, "incident.verdict"), "restarted_by_other");
        has(
            text(&opened, "incident.summary"),
            &["restarted 4 times within 10 min by uid 0 (root)", "nightly.sh"],
        );
        has(text(&opened, "incident.actor.text"), &["/usr/bin/systemctl restart api.service", "nightly.sh"]);

        // hostprobe does not restart it beside the script.
        let mark = lab.daemon.mark();
        hostprobe_tests::process::kill(lab.systemd.host_main_pid(UNIT).expect("it runs"));
        let held = |event: &Value| is(event, "restart.hold", "api");
        let held = lab.daemon.wait_for_after(mark, held, LONG);
        has(text(&held, "event.reason"), &["something else restarts it again and again"]);
        assert_eq!(lab.daemon.count(|event| is(event, "restart.request", "api")), 0);
    }
}

#[test]
fn a_package_that_restarts_a_unit_is_named_with_dpkg() {
    if !require("dpkg", "/usr/bin/dpkg-deb") {
        return;
    }
    let Some(lab) = Lab::start(HOOKS) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let control = folder.path().join("package/DEBIAN");
    fs::create_dir_all(&control).expect("a folder is made");
    fs::write(
        control.join("control"),
        "Package: hostprobe-test-app\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n\
         Description: restarts a unit\n",
    )
    .expect("it is written");
    let script = control.join("postinst");
    fs::write(&script, "#!/bin/sh\nset -e\nsystemctl restart api.service\n").expect("it is written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).expect("it is made executable");
    let package = lab.systemd.path("/root/app.deb");
    let built = Command::new("/usr/bin/dpkg-deb")
        .args(["--build", "--root-owner-group"])
        .arg(folder.path().join("package"))
        .arg(&package)
        .output()
        .expect("dpkg-deb runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mark = lab.daemon.mark();
    let installed = lab.systemd.command("/usr/bin/dpkg").args(["--install", "/root/app.deb"]).output();
    let installed = installed.expect("dpkg runs");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let state = |event: &Value| {
        is(event, "service.state", "api") && text(event, "event.reason").contains("restarted by uid 0 (root)")
    };
    let event = lab.daemon.wait_for_after(mark, state, LONG);
    has(
        text(&event, "event.reason"),
        &["systemctl restart api.service", "hostprobe-test-app.postinst", "dpkg"],
    );
    lab.reason(mark, "healthy");
    lab.has_no_incident();
}

#[test]
fn a_container_that_podman_kills_names_the_command() {
    if !require_root() {
        return;
    }
    let Some(podman) = Podman::new() else { return };
    let id = podman.start(&["--cgroups=disabled"], &["/bin/sleep", "1000"]);
    let pid_file = podman.folder().join("pid");
    fs::write(&pid_file, podman.pid(&id).to_string()).expect("it is written");
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"job\"\nmatch = {{ pidfile = {:?} }}\n",
        pid_file.display().to_string()
    );
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    wait_until_healthy(&daemon, "job");
    let mark = daemon.mark();
    podman.kill(&id);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "job"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed", "{opened:#}");
    let actor = field(&opened, "incident.actor").expect("an actor").to_string();
    has(&actor, &["podman", &format!("kill {id}")]);
}
