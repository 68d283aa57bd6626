//! What the command line answers, and with which exit status.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    http::{self, free_port},
    incident_events::{IncidentEvents, is, text},
    parts::{built, require_root},
    process::with_argument,
    program::{NOBODY, ProgramCopy},
    schema,
    supervised::Supervised,
    victim::Victim,
};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(30);

const WELL: &str = "[http]\nlisten = \"\"\n[[service]]\nname = \"a\"\nunit = \"a.service\"\n";

fn run(command: &mut Command) -> Output {
    command.output().expect("hostprobe can be run")
}

/// Insists that it was refused as a bad configuration, in these words and no others.
#[track_caller]
fn refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end(), words);
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn a_bad_configuration_is_refused_with_its_place_and_what_was_expected() {
    let copy = ProgramCopy::new();
    let cases: [(&[u8], &str); 6] = [
        (
            b"[[service]]\nname = \"a\"\nunit = \"a.service\"\ncritcal = true\n",
            ":4:1: unknown key `critcal` (did you mean `critical`?); expected one of `name`, `unit`, `exec`, `container`, `engine`, `match`, \
             `output`, `output_max`, `output_keep`, `output_stamp`, `directory`, `environment`, `environment_file`, `user`, \
             `group`, `umask`, `rlimits`, `stop_signal`, `stop_timeout`, `depends_on`, `start_after`, `critical`, \
             `maintenance`, `probe`, `restart`, `limits`, `policy`",
        ),
        (
            b"[[service]]\nname = \"a\"\nunit = \"a.service\"\n[service.restart]\ngrace = \"10 sec\"\n",
            ":5:9: found \"10 sec\"; expected a duration such as \"250ms\", \"10s\", \"5m\" or \"1h\"",
        ),
        (
            b"[[service]]\nname = \"a\"\nunit = \"a.service\"\nexec = [\"/bin/true\"]\n",
            ":4:8: service `a` has both `unit` and `exec`; expected at most one of `unit`, `exec`, `container` and `match`",
        ),
        (
            b"[[service]]\nname = \"a\"\nunit = \"a.service\"\ndepends_on = [\"b\"]\n",
            ":4:15: unknown service \"b\"; expected the name of a service in this file",
        ),
        (b"[http]\n# \xff\n", ": line 2 is not UTF-8 text; expected a TOML file saved as UTF-8"),
        (b"[http\n", ":1:6: unclosed table; expected `]`"),
    ];
    for (content, complaint) in cases {
        let file = copy.file("bad.toml", content);
        for verb in ["check", "run"] {
            refused(&run(&mut copy.command(verb, &file)), &format!("{}{complaint}", file.display()));
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let copy = ProgramCopy::new();
    let missing = copy.folder.path().join("missing.toml");
    let folder = copy.folder.path().to_owned();
    for verb in ["check", "run"] {
        let complaint = "no such file; create it, or name another with --config";
        refused(&run(&mut copy.command(verb, &missing)), &format!("{}: {complaint}", missing.display()));
        let complaint = "is a directory; expected a TOML file";
        refused(&run(&mut copy.command(verb, &folder)), &format!("{}: {complaint}", folder.display()));
    }
    if !require_root() {
        return;
    }
    let closed = copy.file("closed.toml", WELL.as_bytes());
    fs::set_permissions(&closed, Permissions::from_mode(0o600)).expect("it is ours");
    for verb in ["check", "run"] {
        // With the rights to watch, but not to read whatever there is.
        let command = copy.command(verb, &closed);
        let mut unprivileged = Command::new("/usr/bin/setpriv");
        unprivileged
            .args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"])
            .args(["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        let complaint = "may not be read by this user; run as root or change its permissions";
        refused(&run(&mut unprivileged), &format!("{}: {complaint}", closed.display()));
    }
}

#[test]
fn a_good_configuration_is_accepted() {
    let copy = ProgramCopy::new();
    let file = copy.file("good.toml", WELL.as_bytes());
    let output = run(&mut copy.command("check", &file));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}: valid, 1 service\n", file.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    // The unit exists on no host.
    assert!(said.starts_with(&format!("warning: {}: service `a`: ", file.display())), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let positional = run(copy.program("check").arg(&file));
    assert_eq!(positional, output);
}

#[test]
fn the_commented_example_is_accepted() {
    let copy = ProgramCopy::new();
    let file = copy.file("example.toml", include_bytes!("../docs/examples/hostprobe.toml"));
    let output = run(copy.command("check", &file).env("PASSWORD", "correct-horse"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}: valid, 10 services\n", file.display()));
}

#[test]
fn a_shell_completes_commands_and_their_flags() {
    let completed = |words: &str| {
        let hostprobe = built("hostprobe").display().to_string();
        let line = format!(
            "source <({hostprobe} completions bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _hostprobe hostprobe \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        let output = run(Command::new("/bin/bash").args(["-c", &line]));
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(completed("hostprobe sta"), "status start");
    assert_eq!(completed("hostprobe events --fo"), "--follow");
    assert_eq!(completed("hostprobe kernel"), "", "hidden commands stay so");
}

#[test]
fn a_misspelled_command_gets_the_nearest_one() {
    let output = run(&mut ProgramCopy::new().program("staus"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("'status'"), "{said}");
}

#[test]
fn a_table_or_key_in_the_wrong_place_gets_a_hint() {
    let copy = ProgramCopy::new();
    for (content, hint) in [
        ("[restart]\nenabled = true\n", "expected it in [service.restart] below its [[service]]"),
        ("[[probe]]\nhttp = \"http://h/\"\n", "expected it in [[service.probe]] below its [[service]]"),
        ("[service]\nname = \"a\"\n", "a table of a list, which is written [[service]]"),
        ("[[service]]\nname = \"a\"\nhttp = \"http://h/\"\n", "expected it in [[service.probe]]"),
        ("[[service]]\nname = \"a\"\nport = 80\n", "expected it in `match`, such as match = { port = 80 }"),
        ("[[service]]\nname = api\n", "a text without quotes; expected \"api\""),
    ] {
        let output = run(copy.program("check").arg(copy.file("bad.toml", content.as_bytes())));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(hint), "{content}: {said}");
    }
    let output = run(copy.program("check").arg(copy.file("empty.toml", b"")));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("there is no service to watch"), "{said}");
}

#[test]
fn a_port_that_is_in_use_costs_the_http_page_only() {
    if !require_root() {
        return;
    }
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = holder.local_addr().expect("its address");
    let service = Supervised::new();
    let config = service.config("").replace("listen = \"\"", &format!("listen = \"{taken}\""));
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    daemon.wait_for_log(&format!("{taken}: another process already listens there"));
    service.until_healthy(&daemon);
    let mark = daemon.mark();
    service.kill(&daemon);
    assert_eq!(IncidentEvents::of(&daemon, mark, &service.name).verdict(), "killed");
}

#[test]
fn the_printed_schema_accepts_events_and_rejects_others() {
    let schema = schema::schema();
    assert_eq!(schema["$schema"], json!("https://json-schema.org/draft/2020-12/schema"));
    jsonschema::draft202012::meta::validate(&schema).expect("a JSON Schema of 2020-12");
    let validator = jsonschema::draft202012::new(&schema).expect("a JSON Schema");
    if !require_root() {
        return;
    }
    let daemon = Daemon::start(WELL, &[]);
    let ready = daemon.ready();
    assert!(validator.is_valid(&ready), "{ready}");
    let wrong: [fn(&mut Value); 5] = [
        |event| event["event"]["action"] = json!("agent.red"),
        |event| event["event"]["sequence"] = json!(0),
        |event| event["event"]["kind"] = json!("alert"),
        |event| event["surprise"] = json!(true),
        |event| drop(event.as_object_mut().expect("an object").remove("coverage")),
    ];
    for (number, spoil) in (1..).zip(wrong) {
        let mut event = ready.clone();
        spoil(&mut event);
        assert!(!validator.is_valid(&event), "number {number} is wrong: {event}");
    }
}

#[test]
fn the_schema_of_the_configuration_is_printed() {
    let schema = schema::of_configurations();
    jsonschema::draft202012::meta::validate(&schema).expect("a JSON Schema of 2020-12");
    let validator = jsonschema::draft202012::new(&schema).expect("a JSON Schema");
    assert!(
        validator
            .is_valid(&json!({ "http": { "listen": "" }, "service": [{ "name": "a", "exec": ["/a"] }] }))
    );
    assert!(!validator.is_valid(&json!({ "htpp": { "listen": "" } })));
    let other = run(Command::new(built("hostprobe")).args(["schema", "cfg"]));
    assert_eq!(other.status.code(), Some(2));
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(said.contains("[possible values: events, config, http]"), "{said}");
}

#[test]
fn sigterm_ends_the_daemon_and_what_it_started() {
    if !require_root() {
        return;
    }
    let (service, detached) = (Supervised::new(), free_port());
    let victim = Victim::program().display().to_string();
    let script = format!("(setsid {victim} --port {detached} &) ; exec {victim} --port {}", service.port);
    let mut daemon = Daemon::start(
        &format!("[http]\nlisten = \"\"\n{}", service.service(&["/bin/sh", "-c", &script])),
        &[],
    );
    for port in [detached, service.port] {
        daemon.wait_for(|event| service.listens(port, event), LONG);
    }
    let cgroup = service.cgroup(&daemon);
    assert!(cgroup.ends_with(format!("service-{}", service.name)), "{}", cgroup.display());

    assert_eq!(daemon.stop().code(), Some(0), "{}", daemon.log());
    assert_eq!(with_argument(&detached.to_string()), [] as [u32; 0]);
    assert_eq!(with_argument(&service.port.to_string()), [] as [u32; 0]);
    assert!(!cgroup.exists(), "{} is removed", cgroup.display());
    let events = daemon.events();
    schema::has_no_gap(&events);
    let last = events.last().expect("events");
    assert_eq!((event_action(last), text(last, "event.reason")), ("agent.stop", "SIGTERM"));
    assert_eq!(daemon.count(|event| is(event, "incident.open", &service.name)), 0);
    let exits: Vec<_> = events.iter().filter(|event| event_action(event) == "process.exit").collect();
    let own = exits.iter().filter(|event| is(event, "process.exit", &service.name)).count();
    assert_eq!(own, 2, "both exits are reported: {exits:#?}\n{}", daemon.log());
}

#[test]
fn observe_mode_starts_a_service_and_only_reports_its_death() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let mut daemon = Daemon::start(&service.config(""), &["--observe"]);
    assert_eq!(daemon.ready()["watching"]["restartable"], json!(0));
    service.until_healthy(&daemon);
    service.kill(&daemon);
    let hold = daemon.wait_for(|event| is(event, "restart.hold", &service.name), LONG);
    assert!(text(&hold, "event.reason").contains("--observe"), "{hold}");
    let opened = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    daemon.wait_for(
        |event| is(event, "service.state", &service.name) && text(event, "service.state") == "down",
        LONG,
    );
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(http::get(service.port, "/health").is_err(), "it stays dead");
    assert_eq!(daemon.count(|event| event_action(event) == "restart.request"), 0);
}
