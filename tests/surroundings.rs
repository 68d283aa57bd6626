//! What a command under `exec` has of the surroundings of its daemon, and what a person meets: colours, pidfiles of real
//! servers, and misspelled tables.

use std::{fs, path::Path, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    incident_events::{is, text},
    parts::{Postgres, built, require, require_root},
    process::{Running, signal, until},
    program::ProgramCopy,
    supervised::Supervised,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const SCRIPT: &str = "/usr/bin/script";

/// Runs a line of a shell at a terminal, with its output in a file.
fn at_a_terminal(line: &str, output: &Path) -> Running {
    let output = output.display().to_string();
    Running::start(Command::new(SCRIPT).args(["-qefc", line, &output]), Signal::KILL)
}

/// A configuration file with a state and a control socket of its own.
fn written(service: &Supervised, config: &str) -> String {
    let folder = service.folder();
    let own = format!(
        "\n[control]\nsocket = {:?}\n[state]\ndirectory = {:?}\n",
        folder.join("control.sock").display().to_string(),
        folder.join("state").display().to_string()
    );
    let file = folder.join("hostprobe.toml");
    fs::write(&file, format!("[http]\nlisten = \"\"\n{config}{own}")).expect("the configuration is written");
    file.display().to_string()
}

#[test]
fn a_command_has_nothing_of_its_daemons_terminal_descriptors_and_secrets() {
    if !require_root() || !require("bsdutils", SCRIPT) {
        return;
    }
    let service = Supervised::new();
    let folder = service.folder().display().to_string();
    let report = format!(
        "tr '\\0' '\\n' < /proc/$$/environ > {folder}/environment; readlink /proc/$$/fd/* > {folder}/descriptors; \
         cut -d' ' -f6,7 /proc/$$/stat > {folder}/terminal; echo $$ > {folder}/pid; exec sleep 1000"
    );
    let config = written(&service, &service.service(&["/bin/sh", "-c", &report]));
    let line = format!(
        "exec 7</etc/hostname; exec env REDIS_PW=hunter2 CREDENTIALS_DIRECTORY=/run/credentials {} run --config {config} \
         --events {folder}/events",
        built("hostprobe").display()
    );
    let _terminal = at_a_terminal(&line, &service.folder().join("typescript"));
    let read = |name: &str| fs::read_to_string(service.folder().join(name)).unwrap_or_default();
    let pid: u32 = until("the command has reported", LONG, || read("pid").trim().parse().ok());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let daemon = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("it has a parent");
    let daemon: u32 = daemon.trim().parse().expect("a pid");

    // The daemon itself has all of it.
    let stat = fs::read_to_string(format!("/proc/{daemon}/stat")).expect("it lives");
    let terminal = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(4)).expect("a terminal");
    let given = fs::read(format!("/proc/{daemon}/environ")).expect("it lives");
    let given = String::from_utf8_lossy(&given).into_owned();
    let passed_on = fs::read_link(format!("/proc/{daemon}/fd/7"));
    signal(daemon, Signal::TERM);
    assert_ne!(terminal, "0", "{stat}");
    assert!(given.contains("REDIS_PW=hunter2") && given.contains("CREDENTIALS_DIRECTORY="), "{given}");
    assert_eq!(passed_on.expect("it has the descriptor"), Path::new("/etc/hostname"));

    let environment = read("environment");
    assert!(environment.contains("PATH="), "{environment}");
    for secret in ["REDIS_PW", "hunter2", "CREDENTIALS_DIRECTORY"] {
        assert!(!environment.contains(secret), "{environment}");
    }
    assert_eq!(read("descriptors").lines().count(), 3, "{}", read("descriptors"));
    assert!(!read("descriptors").contains("hostname") && !read("descriptors").contains("/dev/pts"));
    assert_eq!(read("terminal").trim(), format!("{pid} 0"), "it leads a session without a terminal");
    until("the daemon ends", LONG, || (!Path::new(&format!("/proc/{daemon}")).exists()).then_some(()));
}

#[test]
fn the_log_has_colours_at_a_terminal_unless_no_color_is_set() {
    if !require_root() || !require("bsdutils", SCRIPT) {
        return;
    }
    for (variable, colours) in [("NO_COLOR=", true), ("NO_COLOR=1", false)] {
        let service = Supervised::new();
        let config = written(&service, &service.service(&["/bin/sleep", "1000"]));
        let folder = service.folder().display();
        let program = built("hostprobe");
        let line = format!(
            "exec env TERM=xterm {variable} {} run --config {config} --events {folder}/events --log info",
            program.display()
        );
        let typescript = service.folder().join("typescript");
        let _terminal = at_a_terminal(&line, &typescript);
        let said = || fs::read_to_string(&typescript).unwrap_or_default();
        let shown = until("it logs", LONG, || Some(said()).filter(|said| said.contains("INFO")));
        let pid: u32 = hostprobe_tests::process::with_argument(&config)
            .into_iter()
            .find(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "hostprobe\n")
            })
            .expect("the daemon lives");
        signal(pid, Signal::TERM);
        until("the daemon ends", LONG, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
        assert_eq!(shown.contains("\u{1b}["), colours, "{variable}: {shown:?}");
    }
}

#[test]
fn a_postgres_is_found_by_its_own_pidfile() {
    if !require_root() {
        return;
    }
    let Some(postgres) = Postgres::start(&[]) else { return };
    let pidfile = postgres.folder.path().join("data/postmaster.pid");
    let lines = fs::read_to_string(&pidfile).expect("it is there").lines().count();
    assert!(lines > 5, "it has more than the pid: {lines} lines");
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"db\"\nmatch = {{ pidfile = {:?} }}\n",
        pidfile.display().to_string()
    );
    let daemon = Daemon::start(&config, &[]);
    let healthy =
        |event: &Value| is(event, "service.state", "db") && text(event, "service.state") == "healthy";
    daemon.wait_for(healthy, LONG);
    let mark = daemon.mark();
    signal(postgres.process.pid(), Signal::KILL);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "db"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    assert!(text(&opened, "incident.summary").contains(&format!("main process {} ", postgres.process.pid())));
}

#[test]
fn a_pidfile_without_a_pid_is_named_once() {
    if !require_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pidfile = folder.path().join("odd.pid").display().to_string();
    fs::write(&pidfile, "pid: unknown\n").expect("it is written");
    let config =
        format!("[http]\nlisten = \"\"\n[[service]]\nname = \"odd\"\nmatch = {{ pidfile = {pidfile:?} }}\n");
    let daemon = Daemon::start(&config, &[]);
    let named = || daemon.log().lines().filter(|line| line.contains("odd.pid")).count();
    until("the log names it", LONG, || (named() > 0).then_some(()));
    // The next searches come after seconds.
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(named(), 1, "{}", daemon.log());
}

#[test]
fn a_misspelled_table_gets_the_nearest_one() {
    let copy = ProgramCopy::new();
    let service = "[[service]]\nname = \"a\"\nunit = \"a.service\"\n";
    for (content, nearest) in [
        ("[htpp]\nlisten = \"\"\n".to_owned(), "did you mean `http`?"),
        ("[[services]]\nname = \"a\"\n".to_owned(), "did you mean `service`?"),
        ("[[alerts]]\nname = \"a\"\n".to_owned(), "did you mean `alert`?"),
        ("[event]\noutput = \"-\"\n".to_owned(), "did you mean `events`?"),
        (format!("{service}[[service.probes]]\nhttp = \"http://h/\"\n"), "did you mean `probe`?"),
        (format!("{service}[service.restrat]\nenabled = true\n"), "did you mean `restart`?"),
        (format!("{service}[service.limit]\nfds = 1\n"), "did you mean `limits`?"),
    ] {
        let mut check = copy.program("check");
        let output =
            check.arg(copy.file("bad.toml", content.as_bytes())).output().expect("hostprobe can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(nearest), "{content}: {said}");
    }
}
