//! What becomes of events on their way to the stream of the fleet: the daemon's own sender and spool, against a real NATS.

use std::{path::PathBuf, time::Duration};

use hostprobe::{
    config::{Fleet, NatsServer},
    emit::{Destination, Names, Origin},
    fleet::{Link, Options, Report, spool, start},
    outcomes::Outcomes,
};
use hostprobe_tests::{
    fleet::{
        HUB, Nats, PORT,
        client::{jetstream, run},
        lab::{LONG, in_a_lab},
    },
    hanging_mount::HangingMount,
    process::until,
};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::Value;
use tempfile::TempDir;

/// A host with nothing but a spool, and its way to NATS.
struct Host {
    link: Option<Link>,
    writer: spool::Writer,
    state: TempDir,
}

impl Host {
    fn start(name: &str) -> Self {
        Self::with_state(name, tempfile::tempdir().expect("a temporary folder"))
    }

    fn with_state(name: &str, state: TempDir) -> Self {
        let (writer, reader) = spool::open(state.path(), 8 << 20).expect("a spool");
        let fleet = Fleet {
            servers: vec![NatsServer { url: format!("nats://{HUB}:{PORT}"), is_tls: false }],
            credentials_file: None,
            ca_file: None,
            name: Some(name.to_owned()),
            addresses: vec![[10, 9, 0, 1].into()],
            sign: false,
            keys_file: None,
            replicas: 1,
            spool: 8 << 20,
        };
        let options =
            Options { fleet, origin: Origin::default(), names: Names::default(), spool: Some(reader) };
        let (reports, _) = Outcomes::<Report>::channel(64);
        let link = start(options, reports).expect("a host starts");
        Self { link: Some(link), writer, state }
    }

    /// Writes an event with this id, and some more bytes.
    fn write(&mut self, id: &str, more: usize) {
        let line = format!("{}\n", event(id, more));
        assert_eq!(self.writer.write(line.as_bytes()).expect("there is room"), line.len());
    }

    /// Leaves the fleet, and returns its state directory.
    fn leave(self) -> TempDir {
        let Self { link, state, .. } = self;
        run(async { link.expect("it is a member").leave(LONG).await });
        state
    }
}

fn event(id: &str, more: usize) -> String {
    serde_json::json!({ "event": { "id": id }, "message": "x".repeat(more) }).to_string()
}

/// The hosts and ids of all events in the stream, in its order.
fn stored() -> Vec<(String, String)> {
    run(async {
        let Ok(stream) = jetstream().await.get_stream("HOSTPROBE_EVENTS").await else { return Vec::new() };
        let mut found = Vec::new();
        for number in 1..=stream.cached_info().state.last_sequence {
            let Ok(message) = stream.get_raw_message(number).await else { continue };
            let event: Value = serde_json::from_slice(&message.payload).expect("an event is JSON");
            let (_, host) = message.subject.rsplit_once('.').expect("a subject has parts");
            found.push((host.to_owned(), event["event"]["id"].as_str().expect("an id").to_owned()));
        }
        found
    })
}

fn of<'s>(host: &'s str, ids: &'s [&str]) -> impl Iterator<Item = (String, String)> + 's {
    ids.iter().map(|id| (host.to_owned(), (*id).to_owned()))
}

#[track_caller]
fn wait_for(host: &str, ids: &[&str]) {
    until("the stream has the events", LONG, || {
        let stored = stored();
        of(host, ids).all(|event| stored.contains(&event)).then_some(())
    });
}

#[test]
fn an_event_whose_id_another_host_has_used_comes_all_the_same() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let mut host = Host::start("a");
        host.write("c0ffee00-1", 0);
        wait_for("a", &["c0ffee00-1"]);
        // By chance, as ids have 32 random bits, or on purpose: the next ids of a host are no secret.
        run(async {
            let jetstream = jetstream().await;
            for id in ["c0ffee00-2", "c0ffee00-3"] {
                let mut headers = async_nats::HeaderMap::new();
                headers.insert("Nats-Msg-Id", id);
                let message = event(id, 0).into();
                let sent = jetstream.publish_with_headers("hostprobe.events.other", headers, message).await;
                assert!(!sent.expect("it is sent").await.expect("it is stored").duplicate);
            }
        });
        for number in 2..=4 {
            host.write(&format!("c0ffee00-{number}"), 0);
        }
        // Those whose ids are used are sent again, after the others.
        let ids = ["c0ffee00-1", "c0ffee00-2", "c0ffee00-3", "c0ffee00-4"];
        wait_for("a", &ids);
        let own: Vec<_> = stored().into_iter().filter(|(host, _)| host == "a").collect();
        let mut expected: Vec<_> = of("a", &ids).collect();
        expected.sort();
        let mut sorted = own.clone();
        sorted.sort();
        assert_eq!(sorted, expected, "each of them once: {own:?}");
    });
}

#[test]
fn an_event_that_is_sent_again_after_a_restart_of_the_daemon_is_in_the_stream_once() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let mut host = Host::start("a");
        host.write("c0ffee00-1", 0);
        wait_for("a", &["c0ffee00-1"]);
        // The stream has an event before the host knows of it.
        let cursor = host.state.path().join("fleet/cursor");
        until("the acknowledgement is noted", LONG, || {
            let noted = std::fs::read_to_string(&cursor).ok()?;
            (!noted.ends_with(" 0\n")).then_some(())
        });
        let state = host.leave();
        // What a crash between the acknowledgement and its note leaves.
        std::fs::remove_file(&cursor).expect("there is one");
        let mut host = Host::with_state("a", state);
        host.write("c0ffee01-1", 0);
        wait_for("a", &["c0ffee01-1"]);
        assert_eq!(stored(), of("a", &["c0ffee00-1", "c0ffee01-1"]).collect::<Vec<_>>());
    });
}

#[test]
fn events_wait_while_nats_is_killed_and_come_in_their_order() {
    in_a_lab(|| {
        let mut nats = Nats::start("");
        let mut host = Host::start("a");
        host.write("c0ffee00-0", 0);
        wait_for("a", &["c0ffee00-0"]);
        nats.kill();
        let ids: Vec<String> = (0..1000).map(|number| format!("c0ffee00-{number}")).collect();
        for id in &ids[1..] {
            host.write(id, 500);
        }
        nats.run_again();
        wait_for("a", &["c0ffee00-999"]);
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert_eq!(stored(), of("a", &ids).collect::<Vec<_>>());
    });
}

#[test]
fn an_event_that_nats_does_not_take_for_its_length_is_counted_and_holds_up_no_other() {
    in_a_lab(|| {
        let _nats = Nats::start("max_payload: 8192");
        let mut host = Host::start("a");
        host.write("c0ffee00-1", 0);
        host.write("c0ffee00-2", 9000);
        host.write("c0ffee00-3", 0);
        wait_for("a", &["c0ffee00-3"]);
        assert_eq!(stored(), of("a", &["c0ffee00-1", "c0ffee00-3"]).collect::<Vec<_>>());
        let counted = until("it is counted", LONG, || Some(host.writer.take_lost()).filter(|lost| *lost > 0));
        assert_eq!((counted, host.writer.take_lost()), (1, 0));
    });
}

#[test]
fn an_event_that_the_stream_does_not_take_for_its_length_is_counted_and_holds_up_no_other() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        run(async {
            let stream = async_nats::jetstream::stream::Config {
                name: "HOSTPROBE_EVENTS".to_owned(),
                subjects: vec!["hostprobe.events.*".to_owned()],
                max_message_size: 4096,
                ..Default::default()
            };
            jetstream().await.create_stream(stream).await.expect("a stream of the operator");
        });
        let mut host = Host::start("a");
        for (id, more) in [("c0ffee00-1", 0), ("c0ffee00-2", 5000), ("c0ffee00-3", 0)] {
            host.write(id, more);
        }
        wait_for("a", &["c0ffee00-3"]);
        let counted = until("it is counted", LONG, || Some(host.writer.take_lost()).filter(|lost| *lost > 0));
        assert_eq!(counted, 1);
    });
}

/// A bind mount, until it is dropped.
struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// How often a host has said that it lives, or more: the number of the latest message in the bucket.
fn signs_of_life(host: &str) -> u64 {
    run(async {
        let bucket = jetstream().await.get_key_value("hostprobe").await.expect("the bucket is there");
        let sign = bucket.entry(format!("alive.{host}")).await.expect("it is read");
        sign.map_or(0, |sign| sign.revision)
    })
}

#[test]
fn a_disk_that_does_not_answer_makes_no_host_silent_and_its_events_come_later() {
    in_a_lab(|| {
        let Some(hanging) = HangingMount::new() else { return };
        let _nats = Nats::start("");
        let mut host = Host::start("a");
        host.write("c0ffee00-1", 0);
        wait_for("a", &["c0ffee00-1"]);
        // From here on, a read of the queue hangs in the kernel.
        let folder = host.state.path().join("fleet");
        let root = hanging.path("");
        mount_bind(&root, &folder).expect("root may mount");
        let bound = Bound(folder);
        host.write("c0ffee00-2", 0);
        for _ in 0..3 {
            let latest = signs_of_life("a");
            until("the host lives", Duration::from_secs(8), || (signs_of_life("a") > latest).then_some(()));
        }
        assert_eq!(stored(), of("a", &["c0ffee00-1"]).collect::<Vec<_>>());
        drop((hanging, bound));
        wait_for("a", &["c0ffee00-2"]);
    });
}
