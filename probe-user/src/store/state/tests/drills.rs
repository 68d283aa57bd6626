//! Drills outlive the daemon.

use super::*;
use crate::fact::{DrillFault, DrillOutcome, DrillReport};

const HOUR: Duration = Duration::from_secs(3600);

/// A drill that began so long ago.
fn drill(id: &str, service: &str, ago: Duration, outcome: DrillOutcome) -> DrillReport {
    let began = jiff::Timestamp::now().checked_sub(ago).unwrap();
    DrillReport {
        id: id.to_owned(),
        service: service.to_owned(),
        fault: DrillFault::Refuse,
        by: "root".to_owned(),
        reason: None,
        began: format!("{began:.6}"),
        outcome,
        incident: None,
        verdict: None,
        detected_ms: Some(0.25),
        decided_ms: None,
        acted_ms: None,
        recovered_ms: None,
        alerted_ms: None,
        steps: Vec::new(),
        notes: Vec::new(),
    }
}

#[test]
fn a_drill_is_kept_as_it_was_known_last_and_found_by_its_time_and_service() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    let over = drill("a0-d1", "web", HOUR, DrillOutcome::Recovered);
    let cut_off = drill("a0-d2", "db", 3 * HOUR, DrillOutcome::Unfinished);
    for report in [drill("a0-d1", "web", HOUR, DrillOutcome::Unfinished), cut_off.clone(), over.clone()] {
        store.keep_drill(report);
    }
    store.shutdown(LONG);
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(reader.drills(None, None).unwrap(), [over.clone(), cut_off]);
    assert_eq!(reader.drills(Some(2 * HOUR), None).unwrap(), std::slice::from_ref(&over));
    assert_eq!(reader.drills(None, Some("web")).unwrap(), std::slice::from_ref(&over));
    let report = reader.report(2 * HOUR, None, Asker::Command).unwrap();
    assert_eq!((report.drills.len(), report.drills[0].detected_ms), (1, Some(0.25)));
}

#[test]
fn a_file_of_before_drills_has_none() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), &[]);
    let old = Connection::open(folder.path().join(FILE)).unwrap();
    old.execute_batch("DROP TABLE drills").unwrap();
    old.pragma_update(None, "user_version", 3).unwrap();
    drop(old);
    assert_eq!(Reader::open(folder.path()).unwrap().drills(None, None).unwrap(), []);
}
