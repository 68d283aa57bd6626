//! No alert is lost with the daemon, however it ends.

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
