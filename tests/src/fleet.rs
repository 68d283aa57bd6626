//! Several hosts on this one: network namespaces on a bridge, each with a daemon of its own, and real NATS servers.

pub mod client;
pub mod jwt;
pub mod lab;
mod slow;

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    daemon::Daemon,
    http::free_port,
    lab::probed::{service, words},
    matrix::receiver::Receiver,
    network::ip,
    parts::{Redis, require},
    process::Running,
};

pub use slow::slow;

/// The address of the hub, where NATS is.
pub const HUB: &str = "10.9.0.254";

/// The port of its first NATS server.
pub const PORT: u16 = 4222;

/// A daemon without pages, which reports nothing of the disks of the machine under test.
const QUIET: &str = "[http]\nlisten = \"\"\n[host]\nfilesystems = false\n";

/// Whether all that a lab takes is there. Otherwise the test is skipped.
pub fn can_be() -> bool {
    require("nats-server", Nats::PROGRAM)
        && require("redis-server", Redis::PROGRAM)
        && require("python3", "/usr/bin/python3")
        && require("iptables", "/usr/sbin/iptables")
        && require("util-linux", "/usr/bin/nsenter")
}

/// Makes the calling thread's network namespace the hub that hosts are connected to.
///
/// # Panics
/// If it cannot be.
pub fn make_hub() {
    ip(&["link", "add", "hub", "type", "bridge"]);
    ip(&["address", "add", &format!("{HUB}/24"), "dev", "hub"]);
    ip(&["link", "set", "hub", "up"]);
}

/// A host: a network namespace with an address.
#[derive(Debug)]
pub struct Host {
    pub name: &'static str,
    pub address: String,
    /// Holds the namespace.
    holder: Running,
    folder: TempDir,
}

impl Host {
    /// Connects one to the hub. Its address ends with `number`.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn connect(name: &'static str, number: u8) -> Self {
        let mut holds = Command::new("/usr/bin/unshare");
        holds.args(["--net", "/bin/sh", "-c", "echo holds; exec sleep infinity"]);
        let holder = Running::start(&mut holds, Signal::KILL);
        holder.wait_until_it_says("holds", &holder.stdout, Duration::from_secs(10));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let host = Self { name, address: format!("10.9.0.{number}"), holder, folder };
        let (near, pid) = (format!("to-{name}"), host.holder.pid().to_string());
        ip(&["link", "add", &near, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        ip(&["link", "set", &near, "master", "hub", "up"]);
        host.run(|| {
            ip(&["link", "set", "lo", "up"]);
            ip(&["address", "add", &format!("{}/24", host.address), "dev", "eth0"]);
            ip(&["link", "set", "eth0", "up"]);
        });
        host
    }

    /// Does something on it, and starts there what is started.
    ///
    /// # Panics
    /// If `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.holder.pid())).expect("it is there");
        let enter = move || {
            // SAFETY: takes two numbers, and moves this thread alone.
            let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(entered, 0, "root may enter a namespace");
            work()
        };
        let done = thread::scope(|scope| scope.spawn(enter).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A file of its own.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).expect("a temporary file");
        path
    }

    /// Starts a daemon with these services, and a receiver of its alerts. `fleet` are further keys of its `[fleet]`.
    pub fn daemon(&self, fleet: &str, services: &str) -> (Daemon, Receiver) {
        self.run(|| {
            let receiver = Receiver::start();
            let config = format!(
                "{QUIET}{}[fleet]\n{}\nname = \"{}\"\n{services}",
                receiver.config(),
                if fleet.contains("nats =") {
                    fleet.to_owned()
                } else {
                    format!("nats = \"nats://{HUB}:{PORT}\"\n{fleet}")
                },
                self.name,
            );
            (Daemon::start(&config, &[]), receiver)
        })
    }

    /// Starts a daemon that is no member of a fleet.
    pub fn lonely_daemon(&self, services: &str) -> Daemon {
        self.run(|| Daemon::start(&format!("{QUIET}{services}"), &[]))
    }

    /// Cuts it off from NATS alone: what it sends there vanishes, and what comes from there.
    pub fn cut_off(&self) {
        self.firewall("--append");
    }

    pub fn reconnect(&self) {
        self.firewall("--delete");
    }

    fn firewall(&self, operation: &str) {
        for (chain, end) in [("INPUT", "--source"), ("OUTPUT", "--destination")] {
            let rule = [operation, chain, "-p", "tcp", end, HUB, "-j", "DROP"];
            let done = self.run(|| Command::new("/usr/sbin/iptables").args(rule).status());
            assert!(done.is_ok_and(|status| status.success()), "iptables takes the rule");
        }
    }
}

/// A Redis under the supervisor of a host, which waits for three seconds before a restart.
pub fn redis(host: &Host) -> String {
    let folder = host.folder.path().display();
    format!(
        r#"
        [[service]]
        name = "redis"
        exec = ["{}", "--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "{folder}"]
        output = "{folder}/redis.log"
        [[service.probe]]
        redis = "redis://127.0.0.1:6379"
        interval = "500ms"
        timeout = "400ms"
        [service.restart]
        before = ["/bin/sleep", "3"]
        "#,
        Redis::PROGRAM
    )
}

/// An application that keeps a connection to a Redis, and answers 503 while that does not answer.
const APPLICATION: &str = r#"
import http.server, socket, sys
redis = (sys.argv[1], 6379)
connection = None
def ask():
    global connection
    for _ in range(2):
        try:
            if connection is None:
                connection = socket.create_connection(redis, 0.3)
                connection.settimeout(0.3)
            connection.sendall(b"PING\r\n")
            if connection.recv(64).startswith(b"+PONG"):
                return True
        except OSError:
            pass
        connection = None
    return False
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if ask() else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass
http.server.HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"#;

/// An application of a host, which needs the Redis at this address.
pub fn application(host: &Host, name: &str, redis: &str) -> String {
    let program = host.file("application.py", APPLICATION).display().to_string();
    let command = words(&["/usr/bin/python3", &program, redis]);
    let times = "interval = \"300ms\"\ntimeout = \"2s\"\nfailures = 2";
    service(name, &command, "http = \"http://127.0.0.1:8080/health\"", times, host.folder.path())
}

/// A NATS server with JetStream on the hub.
#[derive(Debug)]
pub struct Nats {
    process: Option<Running>,
    folder: TempDir,
    config: PathBuf,
}

impl Nats {
    pub const PROGRAM: &str = "/usr/sbin/nats-server";

    /// Starts the first one, with this further configuration.
    pub fn start(further: &str) -> Self {
        Self::start_nth(0, further)
    }

    /// Starts the `nth` of a cluster, from 0.
    pub fn start_nth(nth: u16, further: &str) -> Self {
        Self::listening(&format!("{HUB}:{}", PORT + nth), &format!("server_name: hub-{nth}\n{further}"))
    }

    /// Starts one on a free port of loopback, and says which; None where it is not installed.
    pub fn on_loopback() -> Option<(Self, u16)> {
        let port = free_port();
        require("nats-server", Self::PROGRAM)
            .then(|| (Self::listening(&format!("127.0.0.1:{port}"), ""), port))
    }

    /// Starts one at this address and port.
    pub fn listening(address: &str, further: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = format!(
            "listen: \"{address}\"\njetstream {{ store_dir: {:?}, max_mem: 256M, max_file: 4G }}\n{further}\n",
            folder.path().join("store").display().to_string(),
        );
        let config = folder.path().join("nats.conf");
        fs::write(&config, text).expect("a temporary file");
        let mut nats = Self { process: None, folder, config };
        nats.run_again();
        nats
    }

    /// The servers of a cluster of three.
    pub fn cluster() -> [Self; 3] {
        let routes: Vec<String> = (0..3).map(|nth| format!("nats://{HUB}:{}", 6222 + nth)).collect();
        [0, 1, 2].map(|nth| {
            let port = 6222 + nth;
            Self::start_nth(
                nth,
                &format!(
                    "cluster {{ name: hub, listen: \"{HUB}:{port}\", routes: [{}] }}",
                    routes.join(", ")
                ),
            )
        })
    }

    /// What a host of that cluster has in its `[fleet]`.
    pub fn cluster_keys() -> String {
        let servers: Vec<String> = (0..3).map(|nth| format!("\"nats://{HUB}:{}\"", PORT + nth)).collect();
        format!("nats = [{}]\nreplicas = 3", servers.join(", "))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again after [`Nats::kill`], with what it has on disk.
    pub fn run_again(&mut self) {
        let process =
            Running::start(Command::new(Self::PROGRAM).arg("--config").arg(&self.config), Signal::KILL);
        process.wait_until_it_says("Server is ready", &process.stderr, Duration::from_secs(20));
        self.process = Some(process);
    }

    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged since it was started.
    ///
    /// # Panics
    /// If it does not run.
    pub fn log(&self) -> String {
        self.process.as_ref().expect("it runs").stderr.all().join("\n")
    }
}

/// What a host may publish and subscribe to, as docs/fleet.md has it.
pub fn permissions(name: &str, addresses: &[&str], may_create: bool) -> (Vec<String>, Vec<String>) {
    let mut publish = vec![
        format!("$KV.hostprobe.alive.{name}"),
        format!("$KV.hostprobe.state.{name}"),
        format!("$KV.hostprobe.held.*.{name}"),
        format!("hostprobe.events.{name}"),
        "$JS.API.INFO".to_owned(),
        "$JS.API.STREAM.INFO.KV_hostprobe".to_owned(),
        "$JS.API.STREAM.INFO.HOSTPROBE_EVENTS".to_owned(),
        "$JS.API.CONSUMER.*.KV_hostprobe.>".to_owned(),
        "$JS.API.CONSUMER.*.KV_hostprobe".to_owned(),
        "$JS.API.DIRECT.GET.KV_hostprobe.>".to_owned(),
        "$JS.API.STREAM.MSG.GET.KV_hostprobe".to_owned(),
        "$JS.FC.>".to_owned(),
    ];
    let address = |address: &&str| format!("$KV.hostprobe.address.{}.{name}", address.replace('.', "-"));
    publish.extend(addresses.iter().map(address));
    if may_create {
        publish.push("$JS.API.STREAM.CREATE.*".to_owned());
    }
    let subscribe =
        vec![format!("_INBOX_{name}.>"), "$KV.hostprobe.>".to_owned(), "hostprobe.events.*".to_owned()];
    (publish, subscribe)
}

/// A host's user with these permissions, in the configuration of nats-server: its public nkey, name and addresses.
pub fn user(public: &str, name: &str, addresses: &[&str], may_create: bool) -> String {
    let (publish, subscribe) = permissions(name, addresses, may_create);
    format!(
        "{{ nkey: {public}, permissions: {{ publish: {{ allow: {publish:?} }}, subscribe: {{ allow: {subscribe:?} }} }} }}"
    )
}
