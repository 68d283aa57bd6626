//! Containers of other engines than the Podman of root, and of those that run out of memory: a real Docker, a rootless Podman.

use std::{fs, path::Path, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, Mark, field},
    docker::{Docker, wait_for_state},
    incident_events::{is, number, text, wait_until_healthy},
    podman::Podman,
    podman_service::PodmanService,
    process::until,
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const SAYS: &str = "echo it is up; exec sleep 1000";

/// Eats memory once a file is there, as a program does that leaks.
const EATS: &str = "while [ ! -e /shared/eat ]; do sleep 0.1; done; rm /shared/eat; exec tail /dev/zero";

const LIMITS: [&str; 2] = ["--memory=32m", "--memory-swap=32m"];

/// Names are unique, because all Podmans of a host share a stream of events.
fn named(what: &str) -> String {
    format!("hostprobe-{what}-{}", std::process::id())
}

fn daemon(engine: &str, socket: &Path, name: &str) -> Daemon {
    let daemon = start(engine, socket, name);
    wait_until_healthy(&daemon, "web");
    daemon
}

fn start(engine: &str, socket: &Path, name: &str) -> Daemon {
    let other = if engine == "docker" { "podman" } else { "docker" };
    let config = format!(
        "[http]\nlisten = \"\"\n[host]\nfilesystems = false\n[containers]\n{other}_socket = \"\"\n{engine}_socket = {:?}\n\
         [[service]]\nname = \"web\"\ncontainer = \"{name}\"\n[service.restart]\nenabled = true\ngrace = \"1s\"\n",
        socket.display().to_string()
    );
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    daemon
}

#[track_caller]
fn restarted_and_resolved(daemon: &Daemon, mark: Mark) -> Value {
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "web"), LONG);
    let done = daemon.wait_for_after(mark, |event| is(event, "restart.done", "web"), LONG);
    assert_eq!(text(&done, "restart.method"), "container", "{done:#}");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "web"), LONG);
    opened
}

#[track_caller]
fn stopped(daemon: &Daemon, mark: Mark) -> Value {
    let such = |event: &Value| is(event, "service.state", "web") && text(event, "service.state") == "stopped";
    daemon.wait_for_after(mark, such, LONG)
}

/// Has a container eat its memory, and returns the incident once that is over.
#[track_caller]
fn runs_out_of_memory(daemon: &Daemon, folder: &Path) -> Value {
    let mark = daemon.mark();
    fs::write(folder.join("eat"), "").expect("it is written");
    let opened = restarted_and_resolved(daemon, mark);
    assert_eq!(text(&opened, "incident.verdict"), "oom_killed", "{opened:#}");
    assert_eq!(number(&opened, "container.exit_code"), Some(137), "{opened:#}");
    assert_eq!(requests(daemon), 1);
    opened
}

fn requests(daemon: &Daemon) -> usize {
    daemon.count(|event| is(event, "restart.request", "web"))
}

fn incidents(daemon: &Daemon) -> usize {
    daemon.count(|event| is(event, "incident.open", "web"))
}

/// The option that gives a container a folder of this host.
fn shared(folder: &Path) -> (std::path::PathBuf, String) {
    let shared = folder.join("shared");
    fs::create_dir_all(&shared).expect("a folder is made");
    let volume = format!("--volume={}:/shared", shared.display());
    (shared, volume)
}

struct DockerLab {
    docker: Docker,
    name: String,
}

impl DockerLab {
    fn new(what: &str) -> Option<Self> {
        Some(Self { docker: Docker::start()?, name: named(what) })
    }

    fn run(&self, options: &[&str], command: &str) -> String {
        let name = format!("--name={}", self.name);
        self.docker.run(&[&[name.as_str()], options].concat(), &["/bin/sh", "-c", command])
    }

    fn daemon(&self) -> Daemon {
        daemon("docker", &self.docker.socket(), &self.name)
    }
}

#[test]
fn docker_restarts_a_killed_container_by_its_api_and_is_named() {
    let Some(lab) = DockerLab::new("kill") else { return };
    let id = lab.run(&[], SAYS);
    let daemon = lab.daemon();
    let mark = daemon.mark();
    lab.docker.invoke(&["kill", &id]);
    let opened = restarted_and_resolved(&daemon, mark);
    assert_eq!(text(&opened, "incident.verdict"), "killed", "{opened:#}");
    assert_eq!(text(&opened, "container.id"), id);
    assert_eq!(text(&opened, "container.name"), lab.name);
    assert_eq!(text(&opened, "container.runtime"), "docker");
    assert_eq!(text(&opened, "container.image.name"), "hostprobe-test");
    let logged = |event: &Value| {
        is(event, "incident.update", "web")
            && field(event, "incident.logs").is_some_and(|logs| logs.to_string().contains("it is up"))
    };
    daemon.wait_for_after(mark, logged, LONG);
}

#[test]
fn docker_and_the_kernel_agree_on_a_container_that_runs_out_of_memory() {
    let Some(lab) = DockerLab::new("oom") else { return };
    let (folder, volume) = shared(lab.docker.folder());
    lab.run(&[LIMITS[0], LIMITS[1], &volume], EATS);
    let daemon = lab.daemon();
    let opened = runs_out_of_memory(&daemon, &folder);
    assert_eq!(field(&opened, "container.oom_killed"), Some(&Value::Bool(true)), "{opened:#}");
}

#[test]
fn a_stop_by_hand_in_docker_is_a_stop_and_its_start_is_no_incident() {
    let Some(lab) = DockerLab::new("stop") else { return };
    lab.run(&[], "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let daemon = lab.daemon();
    let mark = daemon.mark();
    lab.docker.invoke(&["stop", "--time=5", &lab.name]);
    stopped(&daemon, mark);
    let mark = daemon.mark();
    lab.docker.invoke(&["start", &lab.name]);
    let healthy =
        |event: &Value| is(event, "service.state", "web") && text(event, "service.state") == "healthy";
    daemon.wait_for_after(mark, healthy, LONG);
    assert_eq!((incidents(&daemon), requests(&daemon)), (0, 0));
}

#[test]
fn a_slow_stop_in_docker_that_ends_in_sigkill_is_a_stop() {
    let Some(lab) = DockerLab::new("slowstop") else { return };
    lab.run(&[], "trap '' TERM; while :; do sleep 0.1; done");
    let daemon = lab.daemon();
    let mark = daemon.mark();
    lab.docker.invoke(&["stop", "--time=1", &lab.name]);
    stopped(&daemon, mark);
    assert_eq!((incidents(&daemon), requests(&daemon)), (0, 0));
}

#[test]
fn a_container_that_is_made_again_in_docker_is_a_deploy() {
    let Some(lab) = DockerLab::new("deploy") else { return };
    lab.run(&[], SAYS);
    let daemon = lab.daemon();
    let mark = daemon.mark();
    lab.docker.invoke(&["rm", "--force", &lab.name]);
    let after = lab.run(&[], SAYS);
    let again = |event: &Value| {
        is(event, "service.state", "web")
            && text(event, "service.state") == "healthy"
            && text(event, "container.id") == after
    };
    daemon.wait_for_after(mark, again, LONG);
    assert_eq!((incidents(&daemon), requests(&daemon)), (0, 0));
}

#[test]
fn dockers_own_restart_is_not_doubled() {
    let Some(lab) = DockerLab::new("policy") else { return };
    let (folder, volume) = shared(lab.docker.folder());
    let fails =
        "echo . >> /shared/starts; while [ ! -e /shared/fail ]; do sleep 0.1; done; rm /shared/fail; exit 3";
    lab.run(&["--restart=always", &volume], fails);
    let daemon = lab.daemon();
    let mark = daemon.mark();
    fs::write(folder.join("fail"), "").expect("it is written");
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "web"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "exited", "{opened:#}");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "web"), LONG);
    assert_eq!(requests(&daemon), 0);
    // The container runs before its command has written anything.
    let starts = until("its second start", LONG, || {
        fs::read_to_string(folder.join("starts")).ok().filter(|starts| starts.lines().count() > 1)
    });
    assert_eq!(starts.lines().count(), 2, "{starts}");
}

#[test]
fn a_failed_health_check_of_docker_leads_to_a_restart() {
    let Some(lab) = DockerLab::new("health") else { return };
    lab.run(
        &["--health-cmd=cat /well", "--health-retries=1", "--health-interval=1s"],
        "[ -e /sick ] || touch /well; exec sleep 1000",
    );
    let daemon = lab.daemon();
    let mark = daemon.mark();
    lab.docker.invoke(&["exec", &lab.name, "/bin/rm", "/well"]);
    let opened = restarted_and_resolved(&daemon, mark);
    assert_eq!(text(&opened, "incident.verdict"), "unhealthy", "{opened:#}");
    assert!(text(&opened, "incident.summary").contains("health check"), "{opened:#}");
    assert_eq!(requests(&daemon), 1);
}

#[test]
fn a_paused_container_of_docker_is_held() {
    let Some(lab) = DockerLab::new("pause") else { return };
    lab.run(&[], SAYS);
    let daemon = lab.daemon();
    lab.docker.invoke(&["pause", &lab.name]);
    wait_for_state(&lab.docker, &lab.name, "paused");
    std::thread::sleep(Duration::from_secs(5));
    lab.docker.invoke(&["unpause", &lab.name]);
    assert_eq!(requests(&daemon), 0);
}

struct PodmanLab {
    podman: Podman,
    service: PodmanService,
    name: String,
}

impl PodmanLab {
    fn new(what: &str, podman: Option<Podman>) -> Option<Self> {
        let podman = podman?;
        let service = PodmanService::start(&podman);
        Some(Self { podman, service, name: named(what) })
    }

    fn run(&self, options: &[&str], command: &str) -> String {
        let name = format!("--name={}", self.name);
        self.podman.start(&[&[name.as_str()], options].concat(), &["/bin/sh", "-c", command])
    }

    fn daemon(&self) -> Daemon {
        daemon("podman", self.service.socket(), &self.name)
    }
}

#[test]
fn a_podman_container_that_runs_out_of_memory_is_restarted_and_the_kernel_says_why() {
    let Some(lab) = PodmanLab::new("oom", Podman::new()) else { return };
    let (folder, volume) = shared(lab.podman.folder());
    lab.run(&[LIMITS[0], LIMITS[1], &volume], EATS);
    let daemon = lab.daemon();
    runs_out_of_memory(&daemon, &folder);
}

#[test]
fn a_socket_of_another_user_that_the_daemon_may_not_write_to_is_told() {
    let Some(lab) = PodmanLab::new("rootright", Podman::rootless()) else { return };
    lab.run(&["--cgroups=disabled"], SAYS);
    let daemon = start("podman", lab.service.socket(), &lab.name);
    daemon.wait_for_log("SupplementaryGroups=");
    // Without a restart of the daemon.
    lab.service.open_to_all();
    wait_until_healthy(&daemon, "web");
}

#[test]
fn a_killed_container_of_a_rootless_podman_is_restarted_by_its_api() {
    let Some(lab) = PodmanLab::new("rootless", Podman::rootless()) else { return };
    lab.service.open_to_all();
    let id = lab.run(&["--cgroups=disabled"], SAYS);
    let daemon = lab.daemon();
    let mark = daemon.mark();
    lab.podman.kill(&id);
    let opened = restarted_and_resolved(&daemon, mark);
    assert_eq!(text(&opened, "incident.verdict"), "killed", "{opened:#}");
    assert_eq!(text(&opened, "container.id"), id);
    assert_eq!(requests(&daemon), 1);
}

#[test]
fn a_stop_by_hand_in_a_rootless_podman_is_a_stop() {
    let Some(lab) = PodmanLab::new("rootstop", Podman::rootless()) else { return };
    lab.service.open_to_all();
    lab.run(&["--cgroups=disabled"], "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let daemon = lab.daemon();
    let mark = daemon.mark();
    lab.podman.invoke(&["stop", "--time=5", &lab.name]);
    stopped(&daemon, mark);
    assert_eq!((incidents(&daemon), requests(&daemon)), (0, 0));
}
