//! What is kept is there after a restart of the daemon, and a bad file or disk stops nothing.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    database::{Database, DatabaseError, MIGRATIONS},
    *,
};
use crate::{
    clock::Timestamp,
    fact::{CommandKind, Operator, Order, User},
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

/// One run of the daemon; returns what an earlier one left.
fn run(folder: &Path, keep: &[(&str, Orders)]) -> BTreeMap<String, Orders> {
    let (store, remembered) = StateStore::open(folder).unwrap();
    for (service, orders) in keep {
        store.keep_orders(service, orders.clone());
    }
    assert_eq!(store.take_loss(), 0);
    store.shutdown(LONG);
    remembered
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
    let (store, _) = StateStore::open(folder).unwrap();
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
