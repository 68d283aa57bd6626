//! What the rows share.

use crate::unit_matrix::row::{Act, Outcome, UnitRow};

pub(super) const SLEEP: &str = "[Service]\nExecStart=/bin/sleep 1000\n";

/// A unit that hostprobe may restart, with one file and nothing done to it.
pub(super) const ROW: UnitRow = UnitRow {
    name: "",
    unit: "simple",
    event: "",
    files: &[("@.service", SLEEP)],
    watched: "@.service",
    config: "",
    running: &["@.service"],
    act: |_| {},
    right: FINE,
};

pub(super) const FINE: Outcome<'static> =
    Outcome { state: "healthy", verdicts: &[], restarts: 0, open: false };
pub(super) const STOPPED: Outcome<'static> = Outcome { state: "stopped", ..FINE };
pub(super) const START_FAILED: Outcome<'static> =
    Outcome { state: "down", verdicts: &["start_failed"], restarts: 0, open: true };
pub(super) const KILLED: Outcome<'static> = Outcome { verdicts: &["killed"], restarts: 1, ..FINE };
pub(super) const WITH_NEEDED: Outcome<'static> =
    Outcome { state: "down", verdicts: &["dependency_down"], restarts: 0, open: true };

pub(super) const START: fn(&Act<'_>) = |act| act.systemctl(&["start", "@.service"]);

pub(super) const SERVER_FILE: &[(&str, &str)] = &[("@.service", SERVER_UNIT)];
/// Runs until it is killed; SIGUSR1 and SIGUSR2 make it exit with 1 and with 0.
const SERVER_UNIT: &str = "[Service]\nExecStart=/bin/sh -c 'trap \"exit 1\" USR1; trap \"exit 0\" USR2; while :; do sleep 0.1; done'\n";

pub(super) const ACTIVATED: &[(&str, &str)] =
    &[("@.service", SERVER_UNIT), ("@.socket", "[Socket]\nListenStream=/run/@.sock\n")];

macro_rules! service {
    ($($text:expr),*) => { &[("@.service", concat!("[Service]\n", $($text, "\n"),*))] };
}
pub(super) use service;
