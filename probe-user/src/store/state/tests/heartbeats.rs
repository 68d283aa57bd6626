//! The latest reports of jobs outlive the daemon.

use super::*;
use crate::probe::heartbeat::{BeatKeeper as _, KeptBeat};

#[test]
fn the_latest_report_of_a_job_is_there_for_the_next_run() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    let now = jiff::Timestamp::now().as_microsecond();
    let first = KeptBeat { since_us: now, beat_us: None };
    let latest = KeptBeat { since_us: now, beat_us: Some(now + 7) };
    store.keep_beat("backup", first);
    store.keep_beat("rotation", first);
    store.keep_beat("backup", latest);
    store.shutdown(LONG);
    let (store, remembered) = open(folder.path());
    let kept: Vec<_> = remembered.heartbeats.into_iter().collect();
    assert_eq!(kept, [("backup".to_owned(), latest), ("rotation".to_owned(), first)]);
    store.shutdown(LONG);
}

#[test]
fn a_file_of_before_heartbeats_gets_a_place_for_them() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), &[]);
    let old = Connection::open(folder.path().join(FILE)).unwrap();
    old.execute_batch("DROP TABLE heartbeats").unwrap();
    old.pragma_update(None, "user_version", 5).unwrap();
    drop(old);
    let beat = KeptBeat { since_us: jiff::Timestamp::now().as_microsecond(), beat_us: None };
    let (store, remembered) = open(folder.path());
    assert!(remembered.heartbeats.is_empty());
    store.keep_beat("backup", beat);
    store.shutdown(LONG);
    let (store, remembered) = open(folder.path());
    assert_eq!(remembered.heartbeats["backup"], beat);
    store.shutdown(LONG);
}
