//! No alert is lost with the daemon, and no service that is well suffers, however it ends.

use hostprobe_tests::{parts::require_root, survival};

/// `cargo xtask survival` kills it more often.
const KILLS: u32 = 10;

#[test]
fn a_daemon_that_is_killed_at_random_moments_loses_no_alert_and_exceeds_no_budget() {
    if !require_root() {
        return;
    }
    let Some(findings) = survival::run(KILLS, 7) else { return };
    println!("{findings:#?}");
    assert_eq!(findings.wrong, [] as [String; 0]);
    assert!(findings.opened > 0 && findings.taken_up > 0);
}

#[test]
fn services_that_are_well_neither_restart_nor_miss_a_request_while_their_daemon_is_killed() {
    if !require_root() {
        return;
    }
    let findings = survival::services::run(KILLS, 7);
    println!("{findings:#?}");
    assert_eq!(findings.wrong, [] as [String; 0]);
    assert!(findings.requests > 0 && findings.deaths > 0);
}
