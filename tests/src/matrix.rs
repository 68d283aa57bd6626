//! The fault matrix: every failure the daemon promises to tell apart, done to real processes, with the verdict and
//! the action that are right for it.

mod databases;
mod deaths;
mod dependencies;
mod hangs;
mod host;
mod hostile;
mod judge;
mod network;
mod paused;
mod probes;
pub mod receiver;
mod refused;
mod row;
pub(crate) mod scene;
mod source;
mod successors;
mod table;
mod units;
mod well;
mod workers;

use std::{panic, thread};

pub use row::{Measured, Outcome, Row};
pub use source::Source;
pub use table::{Report, SideBySide, heading, line};

/// All rows, in the order of their numbers.
pub fn rows() -> Vec<Row> {
    let groups: [&[Row]; 14] = [
        deaths::ROWS,
        hangs::ROWS,
        dependencies::ROWS,
        databases::ROWS,
        workers::ROWS,
        units::ROWS,
        host::ROWS,
        network::ROWS,
        refused::ROWS,
        well::ROWS,
        paused::ROWS,
        successors::ROWS,
        hostile::ROWS,
        probes::ROWS,
    ];
    let mut rows: Vec<Row> = groups.concat();
    rows.sort_by_key(Row::order);
    rows
}

/// Suppresses the panic messages of rows: the table shows them.
pub fn silence_panics_of_rows() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !thread::current().name().is_some_and(|name| name.starts_with("row ")) {
            usual(info);
        }
    }));
}
