//! The benchmark of the fleet in short, so that it stays alive.

use hostprobe_tests::{
    bench::{TASKS, section::Effort},
    parts::require_root,
};

#[test]
fn a_fleet_of_forty_hosts_knows_each_cause_and_loses_no_event() {
    if !require_root() {
        return;
    }
    let task = TASKS.iter().find(|task| task.name == "fleet").expect("there is such a section");
    let section = (task.measure)(Effort::Quick).expect("it can be measured");
    assert!(section.unmeasured.is_empty(), "{:?}", section.unmeasured);
    for row in &section.rows {
        // How long it takes is for the benchmark to say.
        for target in row.targets.iter().filter(|target| !target.wanted.contains('≤')) {
            let figure = &row.figure;
            assert!(target.met, "{figure}: wanted {}, reached {}", target.wanted, target.reached);
        }
    }
    assert!(section.rows.len() > 15, "{:?}", section.rows);
}
