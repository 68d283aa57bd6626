//! What the host has only so many of, filled for real: tracked connections, processes and threads, open files, local ports.
//! The checks read the same files with hooks and without: two daemons see each fault, one of each kind.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    incident_events::{is, text},
    loop_disk::run,
    network,
    parts::{require, require_root},
    process::until,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(300);

/// A daemon with hooks, and one without.
fn daemons(limits: &str) -> [Daemon; 2] {
    let config = format!("[http]\nlisten = \"\"\n[host]\nfilesystems = false\nclock_sync = false\n{limits}");
    let daemons = [&[][..], &["--without-hook", "all"]].map(|arguments| Daemon::start(&config, arguments));
    daemons.iter().for_each(|daemon| drop(daemon.ready()));
    daemons
}

fn marks(daemons: &[Daemon; 2]) -> [Mark; 2] {
    daemons.each_ref().map(Daemon::mark)
}

/// Waits until each daemon has an event of the host's incident with this verdict; their summaries.
#[track_caller]
fn wait_for(daemons: &[Daemon; 2], marks: [Mark; 2], action: &str, verdict: &str) -> [String; 2] {
    let such = |event: &Value| is(event, action, "host") && text(event, "incident.verdict") == verdict;
    [0, 1].map(|at| {
        let found = daemons[at].wait_for_after(marks[at], such, LONG);
        let summary = text(&found, "incident.summary");
        println!("{action}: {summary}");
        summary.to_owned()
    })
}

/// Waits until each daemon has opened an incident with this verdict, whose summary has these words.
#[track_caller]
fn wait_for_open(daemons: &[Daemon; 2], verdict: &str, words: &str) {
    let summaries = wait_for(daemons, [Mark::default(); 2], "incident.open", verdict);
    assert!(summaries.iter().all(|summary| summary.contains(words)), "{summaries:?}");
}

/// A number in a file of `/proc`, at this place of its line.
fn number(file: &str, place: usize) -> u64 {
    let text = fs::read_to_string(file).expect("the file is there");
    let word = text.split([' ', '\t', '/', '\n']).filter(|word| !word.is_empty()).nth(place);
    word.and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn a_table_of_tracked_connections_that_fills_up_is_an_incident() {
    if !require_root() || !require("iptables", "/usr/sbin/iptables") {
        return;
    }
    network::in_its_own(|| {
        // Connections are tracked once a rule asks for their state.
        let rule = ["-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"];
        run(Command::new("/usr/sbin/iptables").args(rule));
        fs::write("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "600")
            .expect("it is the namespace's own");
        let most = number("/proc/sys/net/netfilter/nf_conntrack_max", 0);
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for number in 0..u32::try_from(most * 9 / 10).expect("a table that fits into memory") {
            let [_, high, middle, low] = number.to_be_bytes();
            // Nothing listens there, and what was sent is a connection all the same.
            let _ = socket.send_to(b"x", (format!("127.{high}.{middle}.1"), 1024 + u16::from(low)));
        }
        let tracked = number("/proc/sys/net/netfilter/nf_conntrack_count", 0);
        assert!(tracked * 100 > most * 85, "{tracked} of {most}");
        wait_for_open(&daemons(""), "host_conntrack", "tracked connections (nf_conntrack_max)");
    });
}

#[test]
fn local_ports_that_connections_to_one_address_use_up_are_an_incident_until_they_are_free() {
    if !require_root() {
        return;
    }
    network::in_its_own(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50063")
            .expect("it is the namespace's own");
        let listener = TcpListener::bind("127.0.0.1:40000").expect("a listener");
        let connect = || TcpStream::connect("127.0.0.1:40000").expect("a port is free");
        let clients: Vec<_> = (0..60).map(|_| (connect(), listener.accept().expect("a client"))).collect();
        let daemons = daemons("");
        let words = "60 of 64 local ports for connections to 127.0.0.1:40000";
        wait_for_open(&daemons, "host_ports", words);
        let marks = marks(&daemons);
        // The server closes first, so that its end of each connection waits for late packets.
        clients.into_iter().for_each(|(client, server)| drop((server, client)));
        drop(listener);
        wait_for(&daemons, marks, "incident.resolve", "host_ports");
    });
}

/// More threads than the host has otherwise, gone when this is dropped.
struct Threads {
    stop: Vec<mpsc::Sender<()>>,
    running: Vec<thread::JoinHandle<()>>,
}

impl Threads {
    fn start(count: usize) -> Self {
        let (mut stop, mut running) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (sender, wait) = mpsc::channel::<()>();
            let work = move || {
                let _ = wait.recv();
            };
            running.push(thread::Builder::new().stack_size(64 << 10).spawn(work).expect("a thread"));
            stop.push(sender);
        }
        Self { stop, running }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.clear();
        self.running.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[test]
fn threads_that_come_near_the_hosts_limit_are_an_incident_until_they_end() {
    if !require_root() {
        return;
    }
    // Two numbers behind the three averages of `/proc/loadavg`: runnable and all.
    let used = number("/proc/loadavg", 4);
    let most = number("/proc/sys/kernel/pid_max", 0).min(number("/proc/sys/kernel/threads-max", 0));
    let limit = (used + 2000) as f64 * 100.0 / most as f64;
    let daemons = daemons(&format!("pids_percent = {limit:.3}\n"));
    let threads = Threads::start(4000);
    wait_for_open(&daemons, "host_pids", "processes and threads are in use");
    let marks = marks(&daemons);
    drop(threads);
    wait_for(&daemons, marks, "incident.resolve", "host_pids");
}

/// Since Linux 6.14, a pid namespace has a limit of its own. The number of threads is still that of the host.
#[test]
fn the_limit_of_a_pid_namespace_is_not_the_hosts() {
    if !require_root() || !require("util-linux", "/usr/bin/unshare") {
        return;
    }
    let in_small = "echo 301 > /proc/sys/kernel/pid_max; exec \"$@\"";
    let under = [
        "/usr/bin/unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "/bin/sh",
        "-c",
        in_small,
        "sh",
    ];
    let _threads = Threads::start(300);
    let daemon = Daemon::start_under(&under, "[http]\nlisten = \"\"\n[host]\nfilesystems = false\n", &[]);
    daemon.ready();
    let rounds = daemon.state().join("last_run");
    let time = || fs::metadata(&rounds).and_then(|file| file.modified()).expect("the file of this run");
    // An incident of this check is opened after two further rounds.
    for _ in 0..4 {
        let before = time();
        until("a round of the checks", LONG, || (time() > before).then_some(()));
    }
    let of_pids = |event: &Value| text(event, "host_check.name") == "pids";
    assert_eq!(daemon.count(of_pids), 0, "{:#?}", daemon.events().into_iter().find(of_pids));
}

#[test]
fn open_files_that_come_near_the_hosts_limit_are_an_incident_until_they_are_closed() {
    if !require_root() {
        return;
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit is raised");
    let many = maximum.map_or(40_000, |maximum| maximum.min(50_000) * 4 / 5);
    let (used, most) = (number("/proc/sys/fs/file-nr", 0), number("/proc/sys/fs/file-nr", 2));
    let limit = (used + many / 2) as f64 * 100.0 / most as f64;
    let daemons = daemons(&format!("files_percent = {limit:.6}\n"));
    let files: Vec<_> = (0..many).map(|_| File::open("/dev/null").expect("it is opened")).collect();
    wait_for_open(&daemons, "host_files", "open files are in use");
    let marks = marks(&daemons);
    drop(files);
    wait_for(&daemons, marks, "incident.resolve", "host_files");
}
