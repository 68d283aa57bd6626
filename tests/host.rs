//! The host as a service: faults of the host, caused for real, and what they mean for services.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action, field},
    http::{self, free_port},
    incident_events::{is, text, wait_until_healthy},
    loop_disk::{FailingDisk, LoopDisk, run},
    network,
    parts::{PostgresFolder, require, require_root},
    process::until,
};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(120);

/// Whether an event is of the host, with this verdict and target.
fn is_of_host(event: &Value, action: &str, verdict: &str, target: &Path) -> bool {
    is(event, action, "host")
        && text(event, "incident.verdict") == verdict
        && Path::new(text(event, "host_check.target")) == target
}

#[track_caller]
fn wait_for(daemon: &Daemon, mark: Mark, action: &str, verdict: &str, target: &Path) -> Value {
    daemon.wait_for_after(mark, |event| is_of_host(event, action, verdict, target), LONG)
}

/// A daemon that checks this file system alone, besides what is on by default.
fn config_of(disk: &LoopDisk) -> String {
    let point = disk.path().display().to_string();
    format!("[http]\nlisten = \"\"\n[host]\nfilesystems = {{ \"*\" = false, {point:?} = {{}} }}\n")
}

#[test]
fn a_full_disk_is_the_cause_of_postgresqls_panic_and_its_restart_waits_for_room() {
    let Some(disk) = LoopDisk::new(300, &[]) else { return };
    let Some(database) = PostgresFolder::below(disk.path()) else { return };
    let (port, page) = (free_port(), free_port());
    // A server that gives up at a PANIC, and leaves the restart to what watches it.
    let mut command = database.command(port);
    command.extend(["-c", "restart_after_crash=off"].map(str::to_owned));
    let output = disk.path().with_file_name("postgres.log");
    let service = format!(
        "[[service]]\nname = \"db\"\nexec = {command:?}\noutput = {:?}\n[service.restart]\nenabled = true\n\
         backoff = \"1s..1s\"\n[[service.probe]]\npostgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"\n\
         interval = \"1s\"\n",
        output.display().to_string()
    );
    let config = config_of(&disk).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{page}\""));
    let daemon = Daemon::start(&format!("{config}{service}"), &[]);
    daemon.ready();
    wait_until_healthy(&daemon, "db");

    let mark = daemon.mark();
    disk.fill();
    let open = wait_for(&daemon, mark, "incident.open", "host_disk_full", disk.path());
    assert_eq!(text(&open, "incident.severity"), "critical", "{open:#}");
    // The kernel tells of the faults of other tests meanwhile.
    let of_space =
        |event: &Value| is(event, "host.state", "host") && text(event, "host_check.name") == "space";
    let state = daemon.wait_for_after(mark, of_space, LONG);
    assert_eq!(field(&state, "host_check.limit"), Some(&json!(90.0)), "{state:#}");
    assert!(field(&state, "host_check.value").and_then(Value::as_f64).is_some_and(|value| value > 99.0));
    let (status, health) = http::get(page, "/health").expect("the page answers");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!((status, &health["checks"]["host"]["verdict"]), (200, &json!("host_disk_full")), "{health:#}");
    let (_, metrics) = http::get(page, "/metrics").expect("the page answers");
    let target = disk.path().display();
    let line = format!("hostprobe_host_trouble{{check=\"space\",target=\"{target}\"}} 1");
    assert!(metrics.contains(&line), "{metrics}");

    // The write-ahead log needs its next file, and a message takes no room elsewhere.
    let log = "select pg_logical_emit_message(false, 'x', repeat('x', 1000000)) from generate_series(1, 40)";
    database.try_sql(port, log);
    let waits = |event: &Value| {
        is(event, "restart.hold", "db") && text(event, "event.reason").contains("which takes no more data")
    };
    daemon.wait_for_after(mark, waits, LONG);
    // The daemon writes the output on a thread of its own.
    until("the output says why", LONG, || {
        let said = fs::read_to_string(&output).expect("its output");
        (said.contains("PANIC") && said.contains("No space left on device")).then_some(())
    });
    let blames = |event: &Value| {
        text(event, "service.name") == "db" && text(event, "incident.cause.service") == "host"
    };
    let blamed = daemon.wait_for_after(mark, blames, LONG);
    assert!(text(&blamed, "incident.summary").contains("% full"), "{blamed:#}");
    daemon.wait_for_after(
        mark,
        |event| is(event, "incident.update", "host") && field(event, "incident.held") == Some(&json!(["db"])),
        LONG,
    );
    assert_eq!(daemon.count(|event| is(event, "restart.request", "db")), 0);

    disk.make_room();
    wait_for(&daemon, mark, "incident.resolve", "host_disk_full", disk.path());
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "db"), LONG);
    assert_eq!(daemon.count(|event| is(event, "restart.request", "db")), 1, "after there was room");
}

/// A service that writes a line to its file on a disk when it starts, and keeps it open.
fn writer(disk: &LoopDisk, name: &str, user: &str) -> String {
    let log = disk.path().join(name).display().to_string();
    let script =
        format!("exec 3>>{log}; head -c 8192 /dev/zero >&3 || exit 7; echo $$ >{log}.pid; exec sleep 1000");
    format!(
        "[[service]]\nname = \"{name}\"\nexec = [\"/bin/sh\", \"-c\", {script:?}]\nuser = \"{user}\"\n\
         output = \"/dev/null\"\n[service.restart]\nenabled = true\nbackoff = \"1s..1s\"\n"
    )
}

#[test]
fn a_disk_that_only_root_can_write_to_holds_the_services_of_other_users_alone() {
    let Some(disk) = LoopDisk::new(100, &["-m", "5"]) else { return };
    run(Command::new("/bin/chmod").arg("1777").arg(disk.path()));
    let services = writer(&disk, "of-root", "root") + &writer(&disk, "of-nobody", "nobody");
    let daemon = Daemon::start(&format!("{}{services}", config_of(&disk)), &[]);
    daemon.ready();
    let pid = |name: &str| {
        let file = disk.path().join(format!("{name}.pid"));
        until("the service has started", LONG, || fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok())
    };
    let (of_root, of_nobody) = (pid("of-root"), pid("of-nobody"));
    let mark = daemon.mark();
    disk.fill_as_another_user();
    wait_for(&daemon, mark, "incident.open", "host_disk_full", disk.path());
    for pid in [of_root, of_nobody] {
        rustix::process::kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL)
            .expect("it is killed");
    }
    let hold = daemon.wait_for_after(mark, |event| is(event, "restart.hold", "of-nobody"), LONG);
    let why = text(&hold, "event.reason");
    assert!(why.contains("which takes no more data of other users than root"), "{why}");
    daemon.wait_for_after(mark, |event| is(event, "restart.done", "of-root"), LONG);
    assert_eq!(daemon.count(|event| is(event, "restart.hold", "of-root")), 0);
    assert_eq!(daemon.count(|event| is(event, "restart.request", "of-nobody")), 0);
    let written = until("it has written again", LONG, || {
        let length = fs::metadata(disk.path().join("of-root")).ok()?.len();
        (length == 2 * 8192).then_some(length)
    });
    assert_eq!(written, 2 * 8192);

    disk.make_room();
    daemon.wait_for_after(mark, |event| is(event, "restart.done", "of-nobody"), LONG);
}

#[test]
fn used_up_inodes_and_a_read_only_remount_are_incidents_until_they_are_over() {
    for arguments in [&[][..], &["--without-hook", "all"]] {
        let Some(disk) = LoopDisk::new(16, &["-N", "64"]) else { return };
        uses_up_inodes_and_is_read_only(&disk, arguments);
    }
}

fn uses_up_inodes_and_is_read_only(disk: &LoopDisk, arguments: &[&str]) {
    let daemon = Daemon::start(&config_of(disk), arguments);
    daemon.ready();
    // A file system is known to be writable once it was seen so.
    disk.use_up_inodes();
    let start = Mark::default();
    let open = wait_for(&daemon, start, "incident.open", "host_inodes", disk.path());
    assert_eq!(text(&open, "incident.severity"), "critical", "{open:#}");
    disk.remount("ro");
    wait_for(&daemon, start, "incident.open", "host_read_only", disk.path());
    let mark = daemon.mark();
    disk.remount("rw");
    wait_for(&daemon, mark, "incident.resolve", "host_read_only", disk.path());
    // A reload that turns the check off ends what is open.
    let config = config_of(disk).replace("{} }", "{ inodes_percent = false } }");
    daemon.reload(&config);
    wait_for(&daemon, mark, "incident.resolve", "host_inodes", disk.path());
}

#[test]
fn a_disk_that_cannot_write_is_an_incident_and_a_line_that_a_program_wrote_is_none() {
    let Some(disk) = FailingDisk::new() else { return };
    // `host_hooks.rs` has the same with the hook.
    let without = ["--without-hook", "block_rq_error"];
    let daemon = Daemon::start("[http]\nlisten = \"\"\n[host]\nfilesystems = false\n", &without);
    daemon.ready();
    let mut log = File::options().write(true).open("/dev/kmsg").expect("the kernel's log");
    for line in
        ["<3>INFO: task fake:1 blocked for more than 122 seconds.", "<3>I/O error, dev fake0, sector 5 op"]
    {
        log.write_all(line.as_bytes()).expect("a line is written");
    }
    let name = disk.name();
    let opened = |event: &Value| is_of_host(event, "incident.open", "host_block_errors", Path::new(name));
    // The kernel leaves a line out that comes soon after those of another disk.
    let open = until("an incident", LONG, || {
        disk.fail();
        daemon.find_after(Mark::default(), opened, Duration::from_secs(2))
    });
    // The kernel tells of the faults of other tests meanwhile.
    let of_disk = |event: &Value| is(event, "host.state", "host") && text(event, "host_check.target") == name;
    let state = daemon.wait_for(of_disk, LONG);
    assert_eq!(text(&state, "event.provider"), "kmsg", "{state:#}");
    assert!(text(&open, "incident.summary").contains(&format!(" error, dev {name}, ")), "{open:#}");
    let of_fake = |event: &Value| text(event, "host_check.target").starts_with("fake");
    assert_eq!(daemon.count(of_fake), 0, "only the kernel's own lines count");
}

#[test]
fn each_number_of_this_host_is_read_and_compared_with_its_limit() {
    let limits = "[http]\nlisten = \"\"\n[host]\nfilesystems = false\npids_percent = 0.01\n\
                  files_percent = 0.001\nclock_sync = false\n";
    let daemon = Daemon::start(limits, &[]);
    daemon.ready();
    for verdict in ["host_pids", "host_files"] {
        wait_for(&daemon, Mark::default(), "incident.open", verdict, Path::new(""));
    }
}

#[test]
fn tracked_connections_are_those_of_the_daemons_network_namespace() {
    if !require_root() || !require("iptables", "/usr/sbin/iptables") {
        return;
    }
    network::in_its_own(|| {
        // Connections are tracked once a rule asks for their state.
        let rule = ["-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"];
        run(Command::new("/usr/sbin/iptables").args(rule));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let clients: Vec<_> =
            (0..64).map(|_| std::net::TcpStream::connect(address).expect("a connection")).collect();
        let limits = "[http]\nlisten = \"\"\n[host]\nfilesystems = false\nconntrack_percent = 0.005\n";
        let daemon = Daemon::start(limits, &[]);
        daemon.ready();
        wait_for(&daemon, Mark::default(), "incident.open", "host_conntrack", Path::new(""));
        drop(clients);
    });
}

#[test]
fn a_state_directory_of_another_boot_whose_run_did_not_end_is_a_crash_of_the_host() {
    let folder = TempDir::new().expect("a temporary folder");
    let state = folder.path().join("state");
    let config = format!(
        "[http]\nlisten = \"\"\n[host]\nfilesystems = false\n[state]\ndirectory = {:?}\n",
        state.display().to_string()
    );
    let mut daemon = Daemon::start(&config, &[]);
    daemon.ready();
    daemon.stop();
    let opened = |daemon: &Daemon| daemon.count(|event| text(event, "incident.verdict") == "host_rebooted");
    let file = state.join("last_run");
    let ended = fs::read_to_string(&file).expect("the file of the last run");
    let (_, word) = ended.trim().split_once(' ').expect("a boot and a word");
    assert_eq!((word, opened(&daemon)), ("ended", 0));
    for (text, crashed) in [
        ("0ddba11e-0000-4000-8000-000000000000 ended", false),
        ("0ddba11e-0000-4000-8000-000000000000 running", true),
    ] {
        fs::write(&file, text).expect("the file is written");
        let mut daemon = Daemon::start(&config, &[]);
        daemon.ready();
        if crashed {
            let open = wait_for(&daemon, Mark::default(), "incident.open", "host_rebooted", Path::new(""));
            let summary = open["incident"]["summary"].as_str().unwrap_or_default();
            assert!(summary.contains("started again without being shut down"), "{summary}");
        }
        daemon.stop();
        assert_eq!(opened(&daemon) > 0, crashed, "{text}");
    }
}

#[test]
fn a_healthy_host_has_no_event_of_its_own() {
    let daemon = Daemon::start("[http]\nlisten = \"\"\n", &[]);
    daemon.ready();
    // After each round of the checks, the daemon says that it still runs. What a round finds comes with it.
    let rounds = daemon.state().join("last_run");
    let time = || fs::metadata(&rounds).and_then(|file| file.modified()).expect("the file of this run");
    for _ in 0..2 {
        let before = time();
        until("a round of the checks", LONG, || (time() > before).then_some(()));
    }
    let of_host =
        |event: &Value| event_action(event) == "host.state" || text(event, "service.name") == "host";
    let found: Vec<_> = daemon.events().into_iter().filter(of_host).collect();
    // Another test of this file breaks a disk meanwhile, of which the kernel tells everybody.
    let own = found.iter().filter(|event| {
        text(event, "event.provider") != "kmsg"
            && text(event, "host_check.name") != "block_errors"
            && text(event, "incident.verdict") != "host_block_errors"
    });
    let own: Vec<_> = own.filter(|event| !text(event, "host_check.target").contains("/disk")).collect();
    assert!(own.is_empty(), "{own:#?}");
}
