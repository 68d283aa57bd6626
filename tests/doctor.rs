//! `hostprobe doctor`: what it says on this host, without hooks, and without rights.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

use hostprobe::sensor::ebpf::Hook;
use hostprobe_tests::{
    http::free_port,
    kernel_hooks::possible,
    network,
    parts::{built, require_root},
    program::{NOBODY, ProgramCopy},
};
use serde_json::Value;

fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("hostprobe can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    (output, said)
}

fn doctor(arguments: &[&str]) -> (Output, String) {
    run(Command::new(built("hostprobe")).arg("doctor").args(arguments))
}

fn check<'a>(report: &'a Value, list: &str, name: &str) -> &'a Value {
    let all = report[list].as_array().expect("a list");
    all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// What is said where no hook is attached.
fn none() -> String {
    format!("degraded, 0 of {} hooks", Hook::ALL.len())
}

#[test]
fn on_a_host_that_has_everything_the_coverage_is_full() {
    if !require_root() {
        return;
    }
    let (output, said) = doctor(&[]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let first = said.lines().next().expect("a line");
    let possible = possible();
    let hooks = possible.len();
    assert!(first.ends_with(&format!("full coverage, {hooks} of {hooks} hooks")), "{first}");
    // It is to be read in ten seconds.
    assert!(
        said.lines().count() < 18 + Hook::ALL.len() && said.lines().all(|line| line.chars().count() < 120),
        "{said}"
    );
    assert!(output.stderr.is_empty(), "{output:?}");

    let (output, said) = doctor(&["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(report["coverage"], "full");
    for hook in Hook::ALL {
        let state = if possible.contains(&hook) { "full" } else { "absent" };
        assert_eq!(check(&report, "hooks", hook.tracepoint())["state"], state, "{hook:?}");
    }
    for name in ["rights", "kernel types", "self-test", "place", "cgroups", "PSI", "host checks"] {
        assert_eq!(check(&report, "host_checks", name)["state"], "full", "{name}");
    }
    assert!(check(&report, "host_checks", "systemd").is_object());
}

#[test]
fn a_missing_hook_is_named_with_its_reason_and_fallback() {
    if !require_root() {
        return;
    }
    let (output, said) = doctor(&["--json", "--without-hook", "mark_victim"]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(report["coverage"], "degraded");
    let oom = check(&report, "hooks", "mark_victim");
    assert_eq!(oom["state"], "degraded");
    assert!(oom["detail"].as_str().is_some_and(|it| it.contains("left out by --without-hook")), "{oom}");
    assert!(oom["fallback"].as_str().is_some_and(|it| it.contains("kernel's log")), "{oom}");
    assert_eq!(check(&report, "hooks", "sched_process_exit")["state"], "full");

    let (output, said) = doctor(&["--without-hook", "all"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.lines().next().is_some_and(|line| line.ends_with(&none())), "{said}");

    let output = Command::new(built("hostprobe")).args(["doctor", "--without-hook", "nonsense"]).output();
    let output = output.expect("hostprobe can be run");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("sched_process_exit"), "{said}");
}

#[test]
fn without_rights_the_report_names_the_missing_ones() {
    if !require_root() {
        return;
    }
    let copy = ProgramCopy::new();
    let (output, said) = run(copy.program("doctor").uid(NOBODY).gid(NOBODY));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("CAP_BPF and CAP_PERFMON missing"), "{said}");
    assert!(said.contains("the kernel's log cannot be read"), "{said}");
    assert!(said.contains("to do: run it as root"), "{said}");
    assert!(said.contains(&none()), "{said}");
}

#[test]
fn each_receiver_is_named_with_its_kind_and_host_and_is_sent_nothing() {
    if !require_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let closed = free_port();
    let copy = ProgramCopy::new();
    let config = format!(
        "[[alert]]\nname = \"chat\"\nslack = \"http://127.0.0.1:{port}/services/T0K3N-of-slack\"\n\
         [[alert]]\nname = \"mail\"\nemail = \"smtp://probe:s3cret-pw@127.0.0.1:{closed}\"\n\
         from = \"a@b.example\"\nto = [\"c@d.example\"]\n\
         [[alert]]\nname = \"far\"\nwebhook = \"http://no-such-host.invalid:8080/hook?key=t0ken\"\n\
         [[alert]]\nwebhook = \"https://127.0.0.1:{port}/x\"\ntls = {{ ca_file = \"/etc/no-such-file\" }}\n"
    );
    let file = copy.file("receivers.toml", config.as_bytes());
    let file = file.to_str().expect("a path");
    let (output, said) = doctor(&["--json", "--config", file]);
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(output.status.code(), Some(1), "some cannot be reached");
    let of = |name: &str| check(&report, "receivers", name);
    let is = |name: &str, kind: &str, address: &str, state: &str, words: &str| {
        let found = of(name);
        assert_eq!(
            (&found["kind"], &found["address"], &found["state"]),
            (&kind.into(), &address.into(), &state.into())
        );
        assert!(found["detail"].as_str().is_some_and(|it| it.contains(words)), "{found:#}");
    };
    is("chat", "slack", &format!("http://127.0.0.1:{port}"), "full", "takes connections");
    is(
        "mail",
        "email",
        &format!("smtp://127.0.0.1:{closed}"),
        "degraded",
        "takes no connection: Connection refused",
    );
    is("far", "json", "http://no-such-host.invalid:8080", "degraded", "its name cannot be resolved");
    let nameless = format!("https://127.0.0.1:{port}");
    is(&nameless, "json", &nameless, "degraded", "/etc/no-such-file");
    assert!(of("mail")["remedy"].is_string());

    let (_, page) = doctor(&["--config", file]);
    assert!(page.contains("receivers of alerts") && page.contains("chat"), "{page}");
    for secret in ["T0K3N", "s3cret", "t0ken"] {
        assert!(!said.contains(secret) && !page.contains(secret), "{secret} in {said}{page}");
    }
    // Both runs have opened a connection, and sent nothing over it.
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut sent = Vec::new();
        stream.read_to_end(&mut sent).expect("it is closed");
        assert_eq!(sent, b"");
    }

    let (_, none) = doctor(&["--json", "--config", copy.file("none.toml", b"").to_str().expect("a path")]);
    let none: Value = serde_json::from_str(&none).expect("JSON");
    assert_eq!(none["receivers"], serde_json::json!([]));
}

#[test]
fn what_icmp_probes_need_is_checked_where_there_is_one() {
    if !require_root() {
        return;
    }
    network::in_its_own(|| {
        let range = |text: &str| {
            fs::write("/proc/sys/net/ipv4/ping_group_range", text).expect("it is the namespace's own")
        };
        let copy = ProgramCopy::new();
        let probe = |probe: &str| format!("[[service]]\nname = \"far\"\n[[service.probe]]\n{probe}\n");
        let with = copy.file("icmp.toml", probe("icmp = \"192.0.2.1\"").as_bytes());
        let without = copy.file("tcp.toml", probe("tcp = \"192.0.2.1:1\"").as_bytes());
        let icmp = |user: u32, file: &Path| {
            let mut command = copy.program("doctor");
            let (_, said) = run(command.args(["--json", "--config"]).arg(file).uid(user).gid(user));
            let report: Value = serde_json::from_str(&said).expect("JSON");
            let checks = report["host_checks"].as_array().expect("a list");
            let check = checks.iter().find(|check| check["name"] == "icmp")?;
            Some(format!("{}: {}; {}", check["state"], check["detail"], check["remedy"]))
        };
        range("1 0");
        assert_eq!(icmp(0, &without), None);
        let raw = icmp(0, &with).expect("a check");
        assert!(raw.contains("full") && raw.contains("raw sockets"), "{raw}");
        let none = icmp(NOBODY, &with).expect("a check");
        assert!(none.contains("degraded") && none.contains("ping_group_range"), "{none}");
        range("0 2147483647");
        let ping = icmp(NOBODY, &with).expect("a check");
        assert!(ping.contains("full") && ping.contains("ping sockets"), "{ping}");
    });
}
