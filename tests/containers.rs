//! Containers of a real Podman, healed by its API.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, Mark, field},
    ecs,
    incident_events::{is, number, text, wait_until_healthy},
    parts::require_root,
    podman::Podman,
    podman_service::PodmanService,
    process::{children, kill, peak_resident, until},
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A container that does something else than what it was made for is noticed by its log.
const SAYS: &str = "echo it is up; exec sleep 1000";

/// Names are unique, because all Podmans of a host share a stream of events.
fn named(what: &str) -> String {
    format!("hostprobe-{what}-{}", std::process::id())
}

struct Lab {
    podman: Podman,
    service: Option<PodmanService>,
    name: String,
}

impl Lab {
    fn new(what: &str) -> Option<Self> {
        if !require_root() {
            return None;
        }
        let podman = Podman::new()?;
        let service = Some(PodmanService::start(&podman));
        Some(Self { podman, service, name: named(what) })
    }

    /// Runs the container, with these further options.
    fn run(&self, options: &[&str], command: &str) -> String {
        let name = format!("--name={}", self.name);
        let all = [&["--cgroups=disabled", name.as_str()], options].concat();
        self.podman.start(&all, &["/bin/sh", "-c", command])
    }

    fn config(&self, more: &str) -> String {
        config(&PodmanService::socket_of(&self.podman), &self.name, more)
    }

    fn daemon(&self, more: &str) -> Daemon {
        let daemon = Daemon::start(&self.config(more), &[]);
        daemon.ready();
        daemon
    }
}

fn config(socket: &Path, name: &str, more: &str) -> String {
    format!(
        "[http]\nlisten = \"\"\n[containers]\ndocker_socket = \"\"\npodman_socket = {:?}\n[[service]]\nname = \"web\"\n\
         container = \"{name}\"\n[service.restart]\nenabled = true\ngrace = \"1s\"\n{more}",
        socket.display().to_string()
    )
}

#[track_caller]
fn restarted_and_resolved(daemon: &Daemon, mark: Mark) -> Value {
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "web"), LONG);
    let done = daemon.wait_for_after(mark, |event| is(event, "restart.done", "web"), LONG);
    assert_eq!(text(&done, "restart.method"), "container", "{done:#}");
    assert_eq!(text(&done, "event.provider"), "container", "{done:#}");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "web"), LONG);
    opened
}

#[track_caller]
fn reason_of_stop(daemon: &Daemon, mark: Mark) -> String {
    let such = |event: &Value| is(event, "service.state", "web") && text(event, "service.state") == "stopped";
    text(&daemon.wait_for_after(mark, such, LONG), "event.reason").to_owned()
}

fn incidents(daemon: &Daemon) -> usize {
    daemon.count(|event| is(event, "incident.open", "web"))
}

#[test]
fn a_killed_container_is_restarted_by_the_api_and_named_in_its_events() {
    let Some(lab) = Lab::new("kill") else { return };
    let labels = ["--label=com.docker.compose.project=shop", "--label=secret=no-event-has-this"];
    let id = lab.run(&labels, SAYS);
    let daemon = lab.daemon("");
    wait_until_healthy(&daemon, "web");
    let mark = daemon.mark();
    lab.podman.kill(&id);
    let opened = restarted_and_resolved(&daemon, mark);
    assert_eq!(text(&opened, "incident.verdict"), "killed", "{opened:#}");
    let told = |name: &str| field(&opened, name).unwrap_or_else(|| panic!("{name}: {opened:#}"));
    assert_eq!(told("container.id"), &Value::from(id.clone()));
    assert_eq!(told("container.name"), &Value::from(lab.name.clone()));
    assert_eq!(told("container.runtime"), "podman");
    assert_eq!(told("container.image.name"), "localhost/hostprobe-test");
    assert_eq!(told("container.labels")["com.docker.compose.project"], "shop");
    let logged = |event: &Value| {
        is(event, "incident.update", "web")
            && field(event, "incident.logs").is_some_and(|logs| logs.to_string().contains("it is up"))
    };
    daemon.wait_for_after(mark, logged, LONG);
    let events = daemon.events();
    let mut check = ecs::Check::default();
    events.iter().for_each(|event| check.add("containers", event));
    assert_eq!(check.findings(), Vec::<String>::new());
    assert!(!events.iter().any(|event| event.to_string().contains("no-event-has-this")));
}

#[test]
fn a_container_that_fails_is_restarted_with_its_exit_code_told() {
    let Some(lab) = Lab::new("exit") else { return };
    let folder = lab.podman.folder().join("shared");
    std::fs::create_dir(&folder).expect("a folder is made");
    let volume = format!("--volume={}:/shared", folder.display());
    lab.run(&[&volume], "while [ ! -e /shared/fail ]; do sleep 0.1; done; rm /shared/fail; exit 3");
    let daemon = lab.daemon("");
    wait_until_healthy(&daemon, "web");
    let mark = daemon.mark();
    std::fs::write(folder.join("fail"), "").expect("it is written");
    let opened = restarted_and_resolved(&daemon, mark);
    assert_eq!(text(&opened, "incident.verdict"), "exited", "{opened:#}");
    assert_eq!(number(&opened, "container.exit_code"), Some(3), "{opened:#}");
}

#[test]
fn a_stop_by_hand_is_a_stop_and_names_the_command() {
    let Some(lab) = Lab::new("stop") else { return };
    lab.run(&[], "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let daemon = lab.daemon("");
    wait_until_healthy(&daemon, "web");
    let mark = daemon.mark();
    lab.podman.invoke(&["stop", "--time=5", &lab.name]);
    let reason = reason_of_stop(&daemon, mark);
    assert!(reason.contains("podman") && reason.contains("stop"), "{reason}");
    // A start by hand is a start.
    let mark = daemon.mark();
    lab.podman.invoke(&["start", &lab.name]);
    let healthy =
        |event: &Value| is(event, "service.state", "web") && text(event, "service.state") == "healthy";
    daemon.wait_for_after(mark, healthy, LONG);
    assert_eq!(incidents(&daemon), 0);
    assert_eq!(daemon.count(|event| is(event, "restart.request", "web")), 0);
}

#[test]
fn a_stop_that_ends_in_sigkill_is_a_stop_without_hooks_as_well() {
    let Some(lab) = Lab::new("slowstop") else { return };
    lab.run(&[], "trap '' TERM; while :; do sleep 0.1; done");
    let daemon = Daemon::start(&lab.config(""), &["--without-hook", "all"]);
    daemon.ready();
    wait_until_healthy(&daemon, "web");
    let mark = daemon.mark();
    lab.podman.invoke(&["stop", "--time=1", &lab.name]);
    reason_of_stop(&daemon, mark);
    assert_eq!(incidents(&daemon), 0);
}

#[test]
fn a_container_that_is_made_again_is_a_deploy() {
    let Some(lab) = Lab::new("deploy") else { return };
    let before = lab.run(&[], SAYS);
    let daemon = lab.daemon("");
    wait_until_healthy(&daemon, "web");
    let mark = daemon.mark();
    lab.podman.invoke(&["rm", "--force", "--time=0", &lab.name]);
    let after = lab.run(&[], SAYS);
    assert_ne!(before, after);
    let again = |event: &Value| {
        is(event, "service.state", "web")
            && text(event, "service.state") == "healthy"
            && text(event, "container.id") == after
    };
    daemon.wait_for_after(mark, again, LONG);
    assert_eq!(incidents(&daemon), 0);
    assert_eq!(daemon.count(|event| is(event, "restart.request", "web")), 0);
}

#[test]
fn the_engines_own_restart_is_not_doubled() {
    let Some(lab) = Lab::new("policy") else { return };
    let folder = lab.podman.folder().join("shared");
    std::fs::create_dir(&folder).expect("a folder is made");
    let volume = format!("--volume={}:/shared", folder.display());
    // Each start is counted.
    lab.run(
        &["--restart=always", &volume],
        "echo . >> /shared/starts; while [ ! -e /shared/fail ]; do sleep 0.1; done; rm /shared/fail; exit 3",
    );
    let daemon = lab.daemon("");
    wait_until_healthy(&daemon, "web");
    let mark = daemon.mark();
    std::fs::write(folder.join("fail"), "").expect("it is written");
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "web"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "exited", "{opened:#}");
    let held = daemon.wait_for_after(mark, |event| is(event, "restart.hold", "web"), LONG);
    assert!(text(&held, "event.reason").contains("Podman"), "{held:#}");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "web"), LONG);
    assert_eq!(daemon.count(|event| is(event, "restart.request", "web")), 0);
    // The container runs before its command has written anything.
    let starts = until("its second start", LONG, || {
        std::fs::read_to_string(folder.join("starts")).ok().filter(|starts| starts.lines().count() > 1)
    });
    assert_eq!(starts.lines().count(), 2, "{starts}");
}

#[test]
fn a_failed_health_check_of_the_engine_leads_to_a_restart() {
    let Some(lab) = Lab::new("health") else { return };
    lab.run(
        &["--health-cmd=cat /well", "--health-retries=1", "--health-interval=disable"],
        "[ -e /sick ] || touch /well; exec sleep 1000",
    );
    let check = || {
        // Without systemd's timers, each check is run by hand. A failure is its answer.
        lab.podman.check_health(&lab.name);
    };
    // It fails before the command has made the file.
    let until_begun = || {
        until("the command has begun", LONG, || {
            lab.podman.execute(&lab.name, &["/bin/cat", "/well"]).status.success().then_some(())
        });
    };
    let daemon = lab.daemon("");
    until_begun();
    check();
    wait_until_healthy(&daemon, "web");
    let mark = daemon.mark();
    lab.podman.invoke(&["exec", &lab.name, "/bin/rm", "/well"]);
    check();
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "web"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "unhealthy", "{opened:#}");
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains("health check") && summary.contains("/well"), "{summary}");
    daemon.wait_for_after(mark, |event| is(event, "restart.done", "web"), LONG);
    // The restart has to prove itself by the same check.
    until_begun();
    check();
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "web"), LONG);
    assert_eq!(daemon.count(|event| is(event, "restart.request", "web")), 1);
}

#[test]
fn a_container_that_shares_a_network_follows_the_restart_of_its_owner() {
    let Some(lab) = Lab::new("owner") else { return };
    let id = lab.run(&[], SAYS);
    let sharing = named("sharing");
    let (name, network) = (format!("--name={sharing}"), format!("--network=container:{}", lab.name));
    lab.podman.start_in_network(&network, &["--cgroups=disabled", &name], &["/bin/sh", "-c", SAYS]);
    let more = format!(
        "[[service]]\nname = \"sidecar\"\ncontainer = \"{sharing}\"\n[service.restart]\nenabled = true\ngrace = \"1s\"\n"
    );
    let daemon = lab.daemon(&more);
    wait_until_healthy(&daemon, "web");
    wait_until_healthy(&daemon, "sidecar");
    let mark = daemon.mark();
    lab.podman.kill(&id);
    restarted_and_resolved(&daemon, mark);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "sidecar"), LONG);
    assert!(text(&opened, "incident.summary").contains(&lab.name), "{opened:#}");
    daemon.wait_for_after(mark, |event| is(event, "restart.done", "sidecar"), LONG);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "sidecar"), LONG);
}

#[test]
fn a_socket_that_goes_away_and_comes_back_costs_nothing_but_the_wait() {
    let Some(mut lab) = Lab::new("away") else { return };
    let id = lab.run(&[], SAYS);
    let daemon = lab.daemon("");
    wait_until_healthy(&daemon, "web");
    lab.service = None;
    let mark = daemon.mark();
    lab.podman.kill(&id);
    // The kernel tells of the death, and the engine says nothing.
    let held = daemon.wait_for_after(mark, |event| is(event, "restart.hold", "web"), LONG);
    assert!(text(&held, "event.reason").contains("does not report its state"), "{held:#}");
    lab.service = Some(PodmanService::start(&lab.podman));
    daemon.wait_for_after(mark, |event| is(event, "restart.done", "web"), LONG);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "web"), LONG);
}

#[test]
fn a_container_with_labels_is_a_service_and_has_no_more_rights_than_the_configuration_gives() {
    let Some(lab) = Lab::new("labels") else { return };
    let config = format!(
        "[http]\nlisten = \"\"\n[containers]\ndiscover = true\ndocker_socket = \"\"\npodman_socket = {:?}\n[[service]]\n\
         name = \"other\"\n[[service.probe]]\ntcp = \"127.0.0.1:9\"\n",
        PodmanService::socket_of(&lab.podman).display().to_string()
    );
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    let mark = daemon.mark();
    let labels =
        ["--label=hostprobe.enable=true", "--label=hostprobe.name=web", "--label=hostprobe.restart=true"];
    let id = lab.run(&labels, SAYS);
    wait_until_healthy(&daemon, "web");
    lab.podman.kill(&id);
    let held = daemon.wait_for_after(mark, |event| is(event, "restart.hold", "web"), LONG);
    assert!(text(&held, "event.reason").contains("not enabled"), "{held:#}");
    assert_eq!(daemon.count(|event| is(event, "restart.request", "web")), 0);
}

/// What a fake engine does to a connection once it has the head of a request.
type Hostile = fn(&mut UnixStream);

/// A fake engine that does one hostile thing to each connection.
fn fake_engine(socket: &Path, hostile: Hostile) {
    let listener = UnixListener::bind(socket).expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                hostile(&mut stream);
            });
        }
    });
}

#[test]
fn a_hostile_engine_holds_up_nothing_else() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    let floods = |stream: &mut UnixStream| {
        let _ = stream.write_all(OK);
        let events =
            b"{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"Attributes\":{\"name\":\"c\"}}}\n"
                .repeat(512);
        while stream.write_all(&events).is_ok() {}
    };
    let sends_garbage = |stream: &mut UnixStream| {
        let _ = stream.write_all(b"\x16\x03\x01 \0 garbage \x1b[2J\n\n");
    };
    let endless_head = |stream: &mut UnixStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-Header: endless\r\n").is_ok() {}
    };
    let hangs = |stream: &mut UnixStream| {
        let _ = stream.read(&mut [0]);
    };
    let kinds: [(&str, Hostile); 4] =
        [("floods", floods), ("garbage", sends_garbage), ("head", endless_head), ("hangs", hangs)];
    if !require_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (kind, hostile) in kinds {
        let socket = folder.path().join(kind);
        fake_engine(&socket, hostile);
        let folder = folder.path().join(format!("{kind}.d"));
        std::fs::create_dir(&folder).expect("a folder is made");
        let output = folder.join("output");
        let more = format!(
            "[[service]]\nname = \"worker\"\nexec = [\"/bin/sleep\", \"1000\"]\noutput = {:?}\n",
            output.display().to_string()
        );
        let daemon = Daemon::start(&config(&socket, "c", &more), &[]);
        daemon.ready();
        wait_until_healthy(&daemon, "worker");
        let mark = daemon.mark();
        let worker = *children(daemon.pid()).first().expect("the worker runs");
        kill(worker);
        let resolved = daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "worker"), LONG);
        let healed = number(&resolved, "incident.timing.healthy_ms").unwrap_or_default();
        assert!(healed < 20_000, "{kind}: {resolved:#}");
        assert!(peak_resident(daemon.pid()) < 200 << 20, "{kind}: the daemon's memory is bounded");
    }
}
