//! Three hosts, one cause: real daemons in network namespaces, a real NATS server, a real Redis.

use std::{
    fs,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::field,
    fleet::{
        Host, Nats, client,
        lab::{LONG, Lab, has_verdict, in_a_lab, one_cause},
        redis, user,
    },
    incident_events::{is, listening_pid, text, wait_until_healthy},
    parts::built,
    process::{kill, until},
};
use nkeys::KeyPair;
use serde_json::Value;

#[test]
fn a_redis_that_is_killed_is_one_incident_one_restart_and_one_alert_on_three_hosts() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let lab = Lab::start(|_| String::new());
        lab.know_each_other();
        one_cause(&lab);
    });
}

#[test]
fn without_nats_each_host_decides_by_itself_and_says_so_and_no_event_is_lost() {
    in_a_lab(|| {
        let mut nats = Nats::start("");
        let lab = Lab::start(|_| String::new());
        lab.know_each_other();
        let connected = || times_said(&lab, "fleet: NATS is connected");
        let before = connected();
        nats.kill();
        let marks = lab.marks();
        until("each host is alone", LONG, || {
            times_said(&lab, "fleet: NATS cannot be reached").iter().all(|times| *times > 0).then_some(())
        });
        lab.kill_redis();
        let (b, _) = lab.services()[1];
        let alone = |event: &Value| {
            is(event, "incident.open", "api")
                && text(event, "incident.summary").contains("NATS cannot be reached")
        };
        let event = b.wait_for_after(marks[1], alone, LONG);
        assert_eq!(text(&event, "incident.verdict"), "network");
        nats.run_again();
        for ((daemon, service), mark) in lab.services().into_iter().zip(&marks) {
            daemon.wait_for_after(*mark, |event| is(event, "incident.resolve", service), LONG);
        }
        let silent = |event: &Value| text(event, "incident.verdict") == "host_silent";
        for (daemon, _) in lab.services() {
            assert_eq!(daemon.count(silent), 0, "a silence of NATS is none of hosts");
        }
        let last = b.events().last().and_then(|event| Some(field(event, "event.id")?.as_str()?.to_owned()));
        let last = last.expect("it has published something");
        let sequences = until("the stream has the last event", LONG, || {
            let sequences = stored(&lab.hosts[1]);
            sequences.iter().any(|(id, _)| *id == last).then_some(sequences)
        });
        let numbers: Vec<u64> = sequences.into_iter().map(|(_, sequence)| sequence).collect();
        let all: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, all, "each event once, in its order");
        // Each host tries again in its own time, and what was heard of another before may be too old.
        until("each host is connected again", LONG, || {
            connected().into_iter().zip(before).all(|(now, before)| now > before).then_some(())
        });
        let last = revision();
        until("the host of Redis tells its state again", LONG, || (revision() > last).then_some(()));
        one_cause(&lab);
    });
}

/// How often the log of each host has these words.
fn times_said(lab: &Lab, words: &str) -> [usize; 3] {
    lab.services().map(|(daemon, _)| daemon.log().matches(words).count())
}

/// The number of the latest state of the host `a` in the bucket; 0 if there is none.
fn revision() -> u64 {
    client::run(async {
        let Ok(bucket) = client::jetstream().await.get_key_value("hostprobe").await else { return 0 };
        let state = bucket.entry("state.a").await.ok().flatten();
        state.map_or(0, |state| state.revision)
    })
}

/// The events of a host in the stream, in its order: their ids and sequences.
fn stored(host: &Host) -> Vec<(String, u64)> {
    client::run(async {
        let jetstream = client::jetstream().await;
        let stream = jetstream.get_stream("HOSTPROBE_EVENTS").await.expect("the stream is there");
        let last = stream.cached_info().state.last_sequence;
        let mut found = Vec::new();
        for number in 1..=last {
            let Ok(message) = stream.get_raw_message(number).await else { continue };
            if message.subject.as_str() == format!("hostprobe.events.{}", host.name) {
                let event: Value = serde_json::from_slice(&message.payload).expect("an event is JSON");
                let sequence = field(&event, "event.sequence").and_then(Value::as_u64).expect("a sequence");
                found.push((text(&event, "event.id").to_owned(), sequence));
            }
        }
        found
    })
}

#[test]
fn a_host_that_nats_does_not_hear_is_reported_by_one_other_within_15_seconds() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let lab = Lab::start(|_| String::new());
        lab.know_each_other();
        // Each has to be connected for a while before it judges others.
        std::thread::sleep(Duration::from_secs(20));
        let marks = lab.marks();
        let [(a, _), (b, _), (c, _)] = lab.services();
        a.signal(rustix::process::Signal::KILL);
        let died = Instant::now();
        let silent = |event: &Value| text(event, "incident.verdict") == "host_silent";
        let reports =
            || [b.since(marks[1]), c.since(marks[2])].concat().into_iter().filter(silent).collect::<Vec<_>>();
        let first = until("another host reports it", LONG, || reports().into_iter().next());
        assert!(died.elapsed() < Duration::from_secs(15), "{:?}", died.elapsed());
        assert!(text(&first, "incident.summary").contains("host a of the fleet is silent"), "{first:#}");
        let shown = lab.hosts[2].run(|| fleet(&["status"]));
        assert!(shown.contains("b: heard"), "{shown}");
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(reports().len(), 1, "one host alone reports it");
        // Its daemon cannot end it any more.
        kill(listening_pid(a, "redis"));
    });
}

/// What `hostprobe fleet` says in the calling thread's network namespace.
fn fleet(words: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("hostprobe.toml");
    fs::write(&config, "[fleet]\nnats = \"nats://10.9.0.254:4222\"\nname = \"shows\"\n").expect("a file");
    let mut command = std::process::Command::new(built("hostprobe"));
    let output =
        command.arg("fleet").args(words).arg("--config").arg(&config).output().expect("hostprobe runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_host_that_is_cut_off_decides_by_itself_and_is_part_of_it_again_later() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let lab = Lab::start(|_| String::new());
        lab.know_each_other();
        let marks = lab.marks();
        lab.hosts[1].cut_off();
        // Two pings without an answer, and two seconds more.
        std::thread::sleep(Duration::from_secs(12));
        lab.kill_redis();
        let [_, (b, _), (c, _)] = lab.services();
        let event = b.wait_for_after(marks[1], |event| is(event, "incident.open", "api"), LONG);
        assert_eq!(text(&event, "incident.verdict"), "network");
        assert!(text(&event, "incident.summary").contains("NATS cannot be reached"), "{event:#}");
        c.wait_for_after(marks[2], has_verdict("web", "dependency_down"), LONG);
        lab.hosts[1].reconnect();
        for ((daemon, service), mark) in lab.services().into_iter().zip(&marks) {
            daemon.wait_for_after(*mark, |event| is(event, "incident.resolve", service), LONG);
        }
    });
}

#[test]
fn a_host_can_write_as_itself_alone_and_a_lie_about_an_address_changes_nothing() {
    in_a_lab(|| {
        let keys = ["a", "b", "c"].map(|name| (name, KeyPair::new_user()));
        let users: Vec<String> = (1..)
            .zip(&keys)
            .map(|(number, (name, key))| {
                user(&key.public_key(), name, &[&format!("10.9.0.{number}")], *name == "a")
            })
            .collect();
        let _nats = Nats::start(&format!("authorization {{ users = [ {} ] }}", users.join(", ")));
        let lab = Lab::signed(&keys);
        lab.know_each_other();
        // The host `c` publishes as `a`, and that the address of `a` is its own.
        let seed = keys[2].1.seed().expect("a new key has a seed");
        let refused = lab.hosts[2].run(|| lie(&seed));
        assert_eq!(refused, LIES.len(), "the server refuses each");
        one_cause(&lab);
    });
}

const LIES: [(&str, &str); 4] = [
    ("$KV.hostprobe.address.10-9-0-1.c", "- 9\n{\"run\":\"1\"}"),
    (
        "$KV.hostprobe.state.a",
        "- 9\n{\"services\":[{\"name\":\"redis\",\"state\":\"healthy\",\"ports\":[6379]}]}",
    ),
    ("$KV.hostprobe.alive.a", "- 9\n{\"run\":\"1\",\"leaves\":true}"),
    ("hostprobe.events.a", "{}"),
];

/// How many of the lies the server refuses.
fn lie(seed: &str) -> usize {
    let tell = async {
        let (events, mut refused) = tokio::sync::mpsc::channel(16);
        let options = async_nats::ConnectOptions::with_nkey(seed.to_owned()).event_callback(move |event| {
            let events = events.clone();
            async move {
                if event.to_string().contains("ermissions") {
                    let _ = events.send(()).await;
                }
            }
        });
        let client = options.connect("nats://10.9.0.254:4222").await.expect("NATS is there");
        for (subject, text) in LIES {
            client.publish(subject, text.into()).await.expect("it is handed over");
        }
        client.flush().await.expect("it is sent");
        let patience = Duration::from_secs(5);
        let mut count = 0;
        while count < LIES.len()
            && matches!(tokio::time::timeout(patience, refused.recv()).await, Ok(Some(())))
        {
            count += 1;
        }
        count
    };
    client::run(tell)
}

#[test]
fn a_cluster_of_three_servers_that_loses_one_serves_the_fleet() {
    in_a_lab(|| {
        let mut cluster = Nats::cluster();
        let lab = Lab::start(|_| Nats::cluster_keys());
        lab.know_each_other();
        cluster[0].kill();
        // The hosts that were connected to it find another one.
        std::thread::sleep(Duration::from_secs(8));
        lab.know_each_other();
        one_cause(&lab);
    });
}

#[test]
fn without_a_fleet_there_is_no_thread_and_no_connection() {
    in_a_lab(|| {
        let host = Host::connect("a", 1);
        let daemon = host.lonely_daemon(&redis(&host));
        daemon.ready();
        wait_until_healthy(&daemon, "redis");
        let pid = daemon.pid();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let names = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        assert!(names.into_iter().all(|name| name.trim() != "fleet"));
        let outward = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("it runs");
        assert!(!outward.contains(":107E"), "no connection to port 4222: {outward}");
        assert!(!daemon.state().join("fleet").exists(), "nothing is kept for one");
    });
}
