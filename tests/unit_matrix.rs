//! Units of every type are started, ended, stopped and broken in one systemd; what hostprobe makes of each is a table,
//! held against docs/units.md.

use std::time::Duration;

use hostprobe_tests::{
    systemd::SystemdLab,
    unit_matrix::{act, config, explain, outcomes, prepare, right, table},
};

/// The slowest row waits out a back-off of three seconds and two checks of a unit that is not watched.
const PATIENCE: Duration = Duration::from_secs(40);

/// After everything is right, nothing may change that.
const QUIET: Duration = Duration::from_secs(12);

/// The lines of the page between which the table stands.
const START: &str = "<!-- unit matrix -->\n";
const END: &str = "<!-- end of unit matrix -->\n";

/// Where the page is written again if this variable is set.
const UPDATE: &str = "UPDATE_DOCS";

#[test]
fn units_of_every_type_are_judged_by_what_systemd_says_of_them() {
    let Some(lab) = SystemdLab::for_test() else { return };
    prepare(&lab);
    let daemon = lab.start_daemon(&config());
    let mark = daemon.mark();
    act(&lab, &daemon, mark);
    outcomes(&daemon, PATIENCE);
    std::thread::sleep(QUIET);
    // The unit that systemd ends and starts every eight seconds may be between two runs.
    let measured = outcomes(&daemon, PATIENCE);
    let table = table(&measured);
    println!("{table}");
    if measured != right() {
        explain(&daemon.events(), &measured);
        panic!("the outcome of some units is wrong, see above");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/units.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let (before, rest) = page.split_once(START).expect("the page has the table");
    let (written, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path, format!("{before}{START}{table}{END}{after}")).expect("the page is written");
    } else {
        assert_eq!(written, table, "docs/units.md: {UPDATE}=1 with this test writes it");
    }
}
