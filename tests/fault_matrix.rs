//! Every failure that the daemon promises to tell apart gets its verdict and its action, twice in a row, and no
//! service that was well is touched.

use hostprobe_tests::matrix::{Outcome, Report, Sight, heading, keep_quiet_about_rows, line, rows};

/// The rows to be run, such as `6,7` or `9b`; all if it is not set.
const SELECTED: &str = "HOSTPROBE_MATRIX_ROWS";

/// Runs the matrix once and prints it as it goes.
fn once(pass: &str, sight: Sight) -> Report {
    let selected = std::env::var(SELECTED).ok();
    let mut report = Report::default();
    println!("{pass} pass\n{}", heading());
    for row in rows() {
        if selected.as_ref().is_some_and(|list| !row.is_in(list)) {
            continue;
        }
        let outcome = row.outcome(sight);
        println!("{}", line(&row, Some(&outcome)));
        for wrong in outcome.wrong() {
            println!("     {wrong}");
        }
        report.0.push((row, outcome));
    }
    report
}

#[test]
fn every_fault_gets_its_verdict_and_its_action_twice_in_a_row() {
    keep_quiet_about_rows();
    let (first, second) = (once("first", Sight::Hooks), once("second", Sight::Hooks));
    let not_run = second.0.iter().filter(|(_, outcome)| matches!(outcome, Outcome::NotRun));
    let not_run: Vec<&str> = not_run.map(|(row, _)| row.number).collect();
    if !not_run.is_empty() {
        println!("not run: {}", not_run.join(", "));
    }
    let wrong = [first.wrong(), second.wrong()].concat();
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn without_any_hook_every_restart_is_still_right() {
    keep_quiet_about_rows();
    let wrong = once("without any hook", Sight::StandIns).wrong();
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
