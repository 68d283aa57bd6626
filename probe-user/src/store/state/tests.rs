//! What is kept is there after a restart of the daemon, and a bad file or disk stops nothing.

mod commands;
mod drills;
mod heartbeats;
mod rollups;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    super::history::NotOne,
    database::{Database, FILE, MIGRATIONS},
    error::DatabaseError,
    *,
};
use crate::{
    act::alert::{Alert, Delivery, KeptAlert, Notification},
    clock::Timestamp,
    emit::{
        Name,
        tests::samples::{self, origin},
    },
    fact::{CommandKind, Fact, Incident, IncidentId, Operator, Order, RememberedIncident, User},
};

const LONG: Duration = Duration::from_secs(20);

fn order(kind: CommandKind, lasts: Option<Duration>) -> Order {
    let user = |id, name: &str| User { id, name: Some(name.to_owned()) };
    let since = Timestamp::now();
    Order {
        kind,
        by: Operator { user: user(0, "root"), login: Some(user(1000, "alice")) },
        reason: Some("the disk is replaced".to_owned()),
        since,
        until: lasts.map(|lasts| since.plus(lasts)),
    }
}

fn paused(lasts: Option<Duration>) -> Orders {
    Orders { stop: None, pause: Some(order(CommandKind::Pause, lasts)) }
}

fn stopped() -> Orders {
    Orders { stop: Some(order(CommandKind::Stop, None)), pause: None }
}

fn open(folder: &Path) -> (StateStore, Remembered) {
    let options = StateOptions { directory: folder.to_owned(), ..StateOptions::default() };
    StateStore::open(&options, &origin()).unwrap()
}

/// One run of the daemon; returns what an earlier one left.
fn run(folder: &Path, keep: &[(&str, Orders)]) -> BTreeMap<String, Orders> {
    let (store, remembered) = open(folder);
    for (service, orders) in keep {
        store.keep_orders(service, orders.clone());
    }
    assert_eq!(store.take_loss(), 0);
    store.shutdown(LONG);
    remembered.orders
}

fn names(folder: &Path, prefix: &str) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn orders_outlive_the_daemon_with_their_author_reason_and_end() {
    let folder = TempDir::new().unwrap();
    let hour = Some(Duration::from_secs(3600));
    let both = Orders { stop: stopped().stop, pause: paused(hour).pause };
    assert!(run(folder.path(), &[("web", both.clone()), ("db", stopped())]).is_empty());
    let found = run(folder.path(), &[("db", Orders::default()), ("cache", paused(None))]);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["db", "web"]);
    let (kept, found) = (both.pause.unwrap(), found["web"].pause.clone().unwrap());
    assert_eq!((kept.by, kept.reason), (found.by, found.reason));
    let (end, again) = (kept.until.unwrap(), found.until.unwrap());
    let apart = end.since(again).max(again.since(end));
    assert!(apart < Duration::from_millis(50), "the wall clock carries the time: {apart:?}");
    assert_eq!(run(folder.path(), &[]).keys().collect::<Vec<_>>(), ["cache", "web"]);
    assert_eq!(fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_pause_that_ended_while_the_daemon_was_down_is_not_remembered() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), &[("web", paused(Some(Duration::from_millis(1)))), ("db", paused(None))]);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(run(folder.path(), &[]).keys().collect::<Vec<_>>(), ["db"]);
}

#[test]
fn a_damaged_file_is_set_aside_and_few_of_them_stay() {
    let folder = TempDir::new().unwrap();
    for round in 0..6 {
        fs::write(folder.path().join(FILE), format!("{round} is no database").repeat(1000)).unwrap();
        assert!(run(folder.path(), &[("web", stopped())]).is_empty());
        assert_eq!(run(folder.path(), &[]).len(), 1, "the new file works");
    }
    let mut aside = names(folder.path(), "state.db.corrupt-");
    aside.sort();
    assert_eq!(aside.len(), 3, "{aside:?}");
    let latest = fs::read_to_string(folder.path().join(aside.last().unwrap())).unwrap();
    assert!(latest.starts_with('5'), "the latest stay");
}

#[test]
fn a_file_of_each_earlier_version_is_brought_up_to_date() {
    for version in 0..=MIGRATIONS.len() {
        let folder = TempDir::new().unwrap();
        let old = Connection::open(folder.path().join(FILE)).unwrap();
        for step in &MIGRATIONS[..version] {
            old.execute_batch(step).unwrap();
        }
        old.pragma_update(None, "user_version", version as i64).unwrap();
        if version > 0 {
            old.execute_batch(
                "INSERT INTO orders (service, kind, user_id, since_us) VALUES ('web', 'stop', 0, 1)",
            )
            .unwrap();
        }
        drop(old);
        assert_eq!(run(folder.path(), &[("db", stopped())]).len(), version.min(1), "version {version}");
        assert_eq!(run(folder.path(), &[]).len(), 1 + version.min(1));
    }
}

#[test]
fn a_newer_file_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), &[("web", stopped())]);
    let newer = Connection::open(folder.path().join(FILE)).unwrap();
    newer.pragma_update(None, "user_version", MIGRATIONS.len() as i64 + 1).unwrap();
    drop(newer);
    assert!(matches!(Database::open(folder.path()), Err(DatabaseError::Newer { .. })));
    assert!(run(folder.path(), &[("db", stopped())]).is_empty());
    let again = Connection::open(folder.path().join(FILE)).unwrap();
    let count: i64 = again.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
    assert!(names(folder.path(), "state.db.corrupt-").is_empty());
}

/// An incident whose fault was so many hours ago, and which is over if its end is given so.
fn incident(id: &str, service: &str, began: i64, ended: Option<i64>) -> Timeline {
    let ago = |hours: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string();
    let story = serde_json::json!({
        "service": service,
        "incident": { "id": id, "verdict": "killed", "since": ago(began), "attempts": 2, "timing": { "healthy_ms": 12.5 } },
        "until": ended.map(ago),
        "hold": null,
        "holds": 3,
        "evidence": [],
        "steps": [],
        "left_out": 0,
    });
    serde_json::from_value(story).unwrap()
}

fn run_with_incidents(folder: &Path, incidents: &[Timeline]) {
    let (store, _) = open(folder);
    for timeline in incidents {
        store.keep_incident(timeline.clone());
    }
    store.shutdown(LONG);
}

fn listed(folder: &Path) -> Vec<String> {
    let all = Reader::open(folder).unwrap().incidents(None, None).unwrap();
    all.into_iter().map(|incident| incident.id).collect()
}

#[test]
fn incidents_outlive_the_daemon_and_are_found_by_time_service_and_number() {
    let folder = TempDir::new().unwrap();
    let (old, open_one) = (incident("a0-i1", "web", 50, Some(40)), incident("a0-i2", "db", 30, None));
    run_with_incidents(folder.path(), &[old.clone(), open_one.clone()]);
    run_with_incidents(folder.path(), &[incident("b0-i1", "web", 3, Some(2))]);
    assert_eq!(listed(folder.path()), ["a0-i2", "b0-i1", "a0-i1"], "the open ones first, then the latest");
    let reader = Reader::open(folder.path()).unwrap();
    let ids = |within: Option<u64>, service| {
        let found = reader.incidents(within.map(|hours| Duration::from_secs(hours * 3600)), service).unwrap();
        found.into_iter().map(|incident| incident.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some(24), None), ["a0-i2", "b0-i1"]);
    assert_eq!(ids(Some(41), Some("web")), ["b0-i1", "a0-i1"]);
    assert_eq!(reader.explain("a0-i1").unwrap(), Ok(old.explained()));
    assert_eq!(reader.explain("2").unwrap(), Ok(open_one.explained()));
    let several = reader.explain("i1").unwrap().unwrap_err();
    assert_eq!(several, NotOne::Several(vec!["b0-i1".to_owned(), "a0-i1".to_owned()]));
    assert_eq!(reader.explain("%").unwrap(), Err(NotOne::None));
}

#[test]
fn an_incident_is_deleted_some_time_after_its_end_and_an_open_one_stays() {
    let folder = TempDir::new().unwrap();
    let day = 24;
    let all = [
        incident("a0-i1", "web", 100 * day, Some(91 * day)),
        incident("a0-i2", "web", 100 * day, None),
        incident("a0-i3", "web", 100 * day, Some(89 * day)),
    ];
    run_with_incidents(folder.path(), &all);
    assert_eq!(listed(folder.path()).len(), 3);
    run_with_incidents(folder.path(), &[]);
    assert_eq!(listed(folder.path()), ["a0-i2", "a0-i3"]);
}

#[test]
fn what_takes_too_much_room_costs_the_oldest_incidents_that_are_over() {
    let folder = TempDir::new().unwrap();
    let mut database = Database::open(folder.path()).unwrap();
    let mut pending = pending::Pending::default();
    for number in 0..200 {
        let ended = (number != 0).then_some(500 - number);
        let timeline = incident(&format!("a0-i{number}"), "web", 600, ended);
        pending.take(Job::Incident(Box::new(timeline)), &origin());
    }
    database.write_history(&pending).unwrap();
    database.shrink(i64::MAX).unwrap();
    assert_eq!(listed(folder.path()).len(), 200);
    database.shrink(10_000).unwrap();
    let left = listed(folder.path());
    assert_eq!(left.len(), 200 - 64, "some at a time");
    assert!(left.contains(&"a0-i0".to_owned()), "an open one stays");
    assert!(!left.contains(&"a0-i64".to_owned()) && left.contains(&"a0-i65".to_owned()));
}

#[test]
fn a_reader_creates_nothing_and_changes_nothing_however_the_daemon_ended() {
    let folder = TempDir::new().unwrap();
    assert!(matches!(Reader::open(folder.path()), Err(ReaderError::Missing(_))));
    run_with_incidents(folder.path(), &[incident("a0-i1", "web", 2, Some(1))]);
    let all = |folder: &Path| {
        let mut all = names(folder, "");
        all.sort();
        all.into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect::<Vec<_>>()
    };
    let clean = all(folder.path());
    assert_eq!(listed(folder.path()), ["a0-i1"]);
    assert_eq!(all(folder.path()), clean);

    // A daemon that is killed leaves the log of its latest writes.
    let (mut database, mut pending) = (Database::open(folder.path()).unwrap(), pending::Pending::default());
    pending.take(Job::Incident(Box::new(incident("a0-i2", "web", 1, None))), &origin());
    database.write_history(&pending).unwrap();
    for left in [&["", "-wal", "-shm"][..], &["", "-wal"]] {
        let crashed = TempDir::new().unwrap();
        for suffix in left {
            let name = format!("{FILE}{suffix}");
            fs::copy(folder.path().join(&name), crashed.path().join(&name)).unwrap();
        }
        let before = names(crashed.path(), "").len();
        assert_eq!(listed(crashed.path()), ["a0-i2", "a0-i1"], "{left:?}");
        assert_eq!(names(crashed.path(), "").len(), before, "{left:?}");
    }
    assert_eq!(listed(folder.path()), ["a0-i2", "a0-i1"], "beside its writer");
}

#[test]
fn a_file_of_before_incidents_has_none() {
    let folder = TempDir::new().unwrap();
    let old = Connection::open(folder.path().join(FILE)).unwrap();
    old.execute_batch(MIGRATIONS[0]).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    assert!(listed(folder.path()).is_empty());
    assert_eq!(Reader::open(folder.path()).unwrap().explain("1").unwrap(), Err(NotOne::None));
}

/// A file system of 256 KiB, for as long as it lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where it cannot be mounted.
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let options = Some(c"size=256k,mode=700");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(c"tmpfs", folder.path(), c"tmpfs", flags, options).ok()?;
        Some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_stops_nothing_and_what_it_could_not_take_is_written_later() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = disk.0.path();
    let (store, _) = open(folder);
    let filler = folder.join("filler");
    // The file system takes as much as it has room for.
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    let long = |service: &str| {
        let mut orders = stopped();
        orders.stop.as_mut().unwrap().reason = Some("x".repeat(20_000));
        store.keep_orders(service, orders);
    };
    for service in ["web", "db", "cache"] {
        long(service);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(store.take_loss(), 0, "no order is lost as long as the daemon lives");
    fs::remove_file(filler).unwrap();
    store.shutdown(LONG);
    assert_eq!(run(folder, &[]).len(), 3);
}

#[test]
fn a_full_disk_costs_the_incidents_that_memory_has_no_room_for_and_counts_them() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = disk.0.path();
    let (store, _) = open(folder);
    let filler = folder.join("filler");
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    for number in 0..300 {
        store.keep_incident(incident(&format!("a0-i{number}"), "web", 2, Some(1)));
    }
    store.flush();
    let mut lost = 0;
    let deadline = std::time::Instant::now() + LONG;
    while lost < 300 - 256 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
        lost += store.take_loss();
    }
    assert_eq!(lost, 300 - 256);
    fs::remove_file(filler).unwrap();
    store.shutdown(LONG);
    assert!(listed(folder).contains(&"a0-i299".to_owned()));
}

/// An alert of this run about its incident of this number.
fn alert(number: u64, incident: u64, delivery: Delivery) -> KeptAlert {
    let Fact::Incident(_, sample) = samples::incident() else { panic!("the sample is an incident") };
    let incident = Incident { id: IncidentId::new(incident), ..sample };
    let since = incident.began();
    let done = Some("restart 1, by systemd, was carried out".to_owned());
    let alert = Alert { done, ..Alert::new(incident, samples::names(), false) };
    let posted = (delivery == Delivery::Done).then(|| "C1 17.5".to_owned());
    KeptAlert { number, notification: Notification { alert, since }, delivery, posted }
}

#[test]
fn alerts_and_memories_of_a_killed_daemon_are_those_of_the_next_with_services_by_name() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    let one = alert(1, 3, Delivery::Done);
    let kept = [
        (1, Delivery::Done),
        (2, Delivery::Waits),
        (3, Delivery::Waits),
        (4, Delivery::Summarised),
        (5, Delivery::Deferred),
    ];
    let mut changes = kept.map(|(number, delivery)| Change::Put(Box::new(alert(number, 3, delivery))));
    if let Change::Put(kept) = &mut changes[0] {
        kept.notification.alert.incident.summary = "bash --password hunter2 killed it".to_owned();
    }
    store.keep("json-ab", changes.to_vec());
    store.keep("json-ab", vec![Change::Remove(2)]);
    let incident = one.notification.alert.incident.clone();
    let summary = "bash --password hunter2 killed it".into();
    let open_incident = RememberedIncident { summary, ..RememberedIncident::alerted(incident.clone()) };
    let memory = Memory { incident: Some(open_incident), spent: vec![incident.since], ..Memory::default() };
    store.keep_memory(incident.service, Box::new(memory), &samples::names());
    store.flush_for(LONG).unwrap().wait();
    for name in names(folder.path(), "") {
        let bytes = fs::read(folder.path().join(&name)).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{name}");
    }
    // The store is not shut down, as after SIGKILL. A later run has other numbers for its services.
    let other_origin = Origin { ephemeral_id: "00000001".to_owned(), ..origin() };
    let options = StateOptions { directory: folder.path().to_owned(), ..StateOptions::default() };
    let (_next, mut remembered) = StateStore::open(&options, &other_origin).unwrap();
    let named = samples::names();
    let mut reversed: Vec<_> = remembered.services().into_iter().map(str::to_owned).collect();
    reversed.reverse();
    let names = Names::new(reversed.into_iter().map(|service| Name { service, unit: None }));
    let alerts = remembered.take_alerts(&names, &other_origin);
    let alerts = &alerts["json-ab"];
    assert_eq!(
        alerts.iter().map(|alert| (alert.number, alert.delivery)).collect::<Vec<_>>(),
        [(1, Delivery::Done), (3, Delivery::Waits), (4, Delivery::Summarised), (5, Delivery::Deferred)]
    );
    assert_eq!((alerts[0].posted.as_deref(), alerts[1].posted.as_deref()), (Some("C1 17.5"), None));
    assert_eq!(alerts[0].notification.alert.done.as_deref(), Some("restart 1, by systemd, was carried out"));
    let found = &alerts[0].notification.alert;
    assert_eq!(other_origin.incident_id(found.incident.id), origin().incident_id(incident.id));
    assert_eq!(found.names.service(found.incident.service), named.service(incident.service));
    assert_eq!(found.names.service(found.incident.cause), named.service(incident.cause));
    assert_eq!(found.incident.earlier.evidence[0], origin().event_id(incident.evidence[0]));
    let memories = remembered.take_memories(&names, &other_origin);
    let [(service, memory)] = &memories[..] else { panic!("{memories:?}") };
    assert_eq!(names.service(*service), named.service(incident.service));
    assert_eq!(memory.spent, [incident.since], "the same boot has the same clock");
}

#[test]
fn an_alert_of_an_earlier_version_is_read_without_the_receivers_name_for_it() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    store.keep("json-ab", vec![Change::Put(Box::new(alert(1, 3, Delivery::Done)))]);
    store.shutdown(LONG);
    let file = Connection::open(folder.path().join(FILE)).unwrap();
    let text: String = file.query_row("SELECT alert FROM outbox", [], |row| row.get(0)).unwrap();
    let mut saved: serde_json::Value = serde_json::from_str(&text).unwrap();
    let kept = saved["kept"].as_object_mut().unwrap();
    assert!(kept.remove("posted").is_some() && kept.remove("done").is_some(), "{kept:?}");
    file.execute("UPDATE outbox SET alert = ?1", [saved.to_string()]).unwrap();
    drop(file);
    let (_store, mut remembered) = open(folder.path());
    let alerts = remembered.take_alerts(&samples::names(), &origin());
    assert_eq!((alerts["json-ab"].len(), &alerts["json-ab"][0].posted), (1, &None));
}

#[test]
fn a_disk_that_hangs_costs_the_incidents_beyond_a_number_and_no_memory() {
    let queue = Queue::default();
    for round in 0..3 {
        for number in 0..300 {
            queue.push(Job::Incident(Box::new(incident(&format!("a0-i{number}"), "web", 2, Some(1)))));
        }
        let lost = queue.take_loss();
        assert!(lost >= 300 - 256, "round {round}: {lost}");
    }
    let memory = Box::new(Memory::default());
    queue.push(Job::Memory { service: ServiceId(0), memory, names: samples::names() });
    queue.end();
    let queue::Next::End(jobs) = queue.next(None) else { panic!("it has ended") };
    assert_eq!(jobs.len(), 257);
}

#[test]
fn a_file_is_opened_with_a_log_whose_first_write_is_done() {
    let folder = TempDir::new().unwrap();
    let database = Database::open(folder.path()).unwrap();
    let log = folder.path().join(format!("{FILE}-wal"));
    assert!(fs::metadata(&log).unwrap().len() > 0);
    database.checkpoint().unwrap();
    assert!(fs::metadata(&log).unwrap().len() > 0);
}

#[test]
fn a_full_disk_keeps_nothing_of_an_earlier_run_from_the_next() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = disk.0.path();
    run(folder, &[("web", stopped())]);
    let filler = folder.join("filler");
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    let (store, remembered) = open(folder);
    assert_eq!(remembered.orders.keys().collect::<Vec<_>>(), ["web"]);
    fs::remove_file(filler).unwrap();
    store.shutdown(LONG);
    assert_eq!(run(folder, &[]).len(), 1);
}

#[test]
fn a_row_that_cannot_be_read_costs_no_other() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), &[("db", stopped()), ("web", stopped())]);
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute("UPDATE orders SET user_id = -1 WHERE service = 'db'", []).unwrap();
    other.execute("INSERT INTO memories VALUES ('api', CAST(x'ff' AS TEXT))", []).unwrap();
    other.execute("INSERT INTO outbox VALUES (CAST(x'ff' AS TEXT), 1, '')", []).unwrap();
    drop(other);
    assert_eq!(run(folder.path(), &[]).keys().collect::<Vec<_>>(), ["web"]);
}
