//! Every failure that the daemon promises to tell apart gets its verdict and its action, twice in a row, and no
//! service that was well is touched; and once more without any hook, from the fallbacks.

use std::{sync::Mutex, thread};

use hostprobe_tests::matrix::{
    Outcome, Report, Row, SideBySide, Source, heading, line, rows, silence_panics_of_rows,
};

/// The rows to be run, such as `6,7` or `9b`; all if it is not set.
const SELECTED: &str = "HOSTPROBE_MATRIX_ROWS";

/// Whether the run shows its output. Otherwise the test prints only the rows that are wrong.
fn watched() -> bool {
    std::env::args().any(|argument| argument == "--nocapture" || argument == "--no-capture")
}

/// The rows that are run at the same time, unless the environment says how many tests are, and but for a run whose times are
/// published. Most of a row is waiting.
fn at_once() -> usize {
    let tests = std::env::var("RUST_TEST_THREADS").ok().and_then(|tests| tests.parse().ok());
    if std::env::var_os(PAGE).is_some() { 1 } else { tests.unwrap_or(2) }
}

/// The passes of a run: what each is called, and what its daemons see by.
const PASSES: [(&str, Source); 3] =
    [("first", Source::Hooks), ("second", Source::Hooks), ("hookless", Source::Fallback)];

/// Runs all passes, one after the other but for the rows that run alone, and prints the rows as they end.
fn run() -> [Report; 3] {
    let selected = std::env::var(SELECTED).ok();
    println!("{:8}{}", "pass", heading());
    let is_selected = |row: &Row| selected.as_ref().is_none_or(|list| row.is_in(list));
    let of_passes = (0..PASSES.len())
        .flat_map(|pass| rows().into_iter().filter(&is_selected).map(move |row| (pass, row)));
    let (alone, together): (Vec<_>, Vec<_>) = of_passes.partition(|(_, row)| row.disturbs_others());
    let reports = PASSES.map(|_| Mutex::new(Report::default()));
    for (rows, at_once) in [(together, at_once()), (alone, 1)] {
        let rows = Mutex::new(rows.into_iter());
        let next = || rows.lock().expect("no row panics here").next();
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while let Some((pass, row)) = next() {
                        let outcome = shown(pass, &row);
                        reports[pass].lock().expect("no row panics here").0.push((row, outcome));
                    }
                });
            }
        });
    }
    reports.map(|report| {
        let mut report = report.into_inner().expect("no row panics here");
        report.0.sort_by_key(|(row, _)| row.order());
        report
    })
}

/// Runs a row of a pass, and prints it if it is to be seen.
fn shown(pass: usize, row: &Row) -> Outcome {
    let (name, source) = PASSES[pass];
    let outcome = row.outcome(source);
    if watched() || !outcome.wrong().is_empty() {
        let wrong: String = outcome.wrong().iter().map(|wrong| format!("\n     {wrong}")).collect();
        println!("{name:8}{}{wrong}", line(row, Some(&outcome)));
    }
    outcome
}

/// The page to write with the table of both sources; unset, the test writes none.
const PAGE: &str = "HOSTPROBE_MATRIX_PAGE";

/// The page before its table.
const INTRODUCTION: &str = "\
# The faults, seen by the hooks and by the fallbacks

Each fault was done to real processes twice: under a daemon with all its hooks, and under one that was refused every
hook (`--without-hook all`). *sure* is the confidence of the first verdict; the times count from the fault until the
incident is opened, and until all probes are well again. Printed and written by

    HOSTPROBE_MATRIX_PAGE=$PWD/docs/faults.md cargo test -p integration-tests --test fault_matrix

";

/// The page lies beside this crate's other pages.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");

#[test]
fn the_page_has_every_row_of_the_matrix_in_its_order_and_all_are_right() {
    let page = std::fs::read_to_string(PATH).expect("the page is there");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let lines: Vec<_> = page.lines().map(cells).filter(|cells| cells.len() == 12).skip(2).collect();
    let on_page: Vec<_> = lines.iter().step_by(2).map(|cells| cells[1..4].join(" | ")).collect();
    let of_matrix: Vec<_> =
        rows().iter().map(|row| format!("{} | {} | {}", row.number, row.fault, row.action)).collect();
    assert_eq!(on_page, of_matrix, "docs/faults.md: {PAGE} with the other test writes it");
    let sources: Vec<_> = lines.iter().map(|cells| cells[4].as_str()).collect();
    assert_eq!(sources, ["hooks", "fallback"].repeat(of_matrix.len()));
    assert!(lines.iter().all(|cells| cells[10] == "yes"), "the page has a row that is wrong or was not run");
}

#[test]
fn every_fault_gets_its_verdict_and_action_twice_in_a_row_and_without_hooks() {
    silence_panics_of_rows();
    let [first, second, hookless] = run();
    let not_run = second.0.iter().filter(|(_, outcome)| matches!(outcome, Outcome::NotRun));
    let not_run: Vec<&str> = not_run.map(|(row, _)| row.number).collect();
    if !not_run.is_empty() {
        println!("not run: {}", not_run.join(", "));
    }
    let both = SideBySide { hooks: &second, fallback: &hookless }.to_string();
    if watched() {
        println!("{both}");
    }
    if let Some(page) = std::env::var_os(PAGE) {
        std::fs::write(page, format!("{INTRODUCTION}{both}")).expect("the page is written");
    }
    let wrong = [first.wrong(), second.wrong(), hookless.wrong()].concat();
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
