//! The fault matrix: every failure the daemon promises to tell apart, done to real processes, with the verdict and
//! the action that are right for it.

mod databases;
mod deaths;
mod dependencies;
mod hangs;
mod host;
mod judge;
mod network;
pub(crate) mod receiver;
pub(crate) mod scene;
mod table;
mod units;
mod workers;

use std::{cell::Cell, panic, thread};

pub(crate) use deaths::signal;
pub use judge::{Expected, Measured};
pub use table::{Report, SideBySide, heading, line};

/// One fault, and what is right for it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number, with a letter where a fault has several variants.
    pub number: &'static str,
    /// What happens.
    pub fault: &'static str,
    /// The verdicts that must be reached, in this order.
    pub verdicts: &'static [&'static str],
    /// What must be done about it, for a person.
    pub action: &'static str,
    /// Does it; None where a part of it is missing.
    pub run: fn(&Row) -> Option<Measured>,
}

/// What the daemon of a row may see by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// The eBPF programs.
    #[default]
    Hooks,
    /// What stands in for them, all of them refused.
    StandIns,
}

thread_local! {
    /// What the row that runs on this thread is about.
    static SIGHT: Cell<Sight> = const { Cell::new(Sight::Hooks) };
}

impl Sight {
    /// That of the row that runs on this thread.
    fn of_row() -> Self {
        SIGHT.get()
    }

    /// What the daemon is told for it.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Hooks => &[],
            Self::StandIns => &["--without-hook", "all"],
        }
    }
}

/// How a row went.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was run; it is right if nothing is wrong with it.
    Run(Measured),
    /// A part it needs is missing; its name was printed.
    NotRun,
}

impl Outcome {
    /// What is wrong, a sentence each; empty if nothing is.
    pub fn wrong(&self) -> &[String] {
        match self {
            Self::Run(measured) => &measured.wrong,
            Self::NotRun => &[],
        }
    }
}

/// All rows, in the order of their numbers.
pub fn rows() -> Vec<Row> {
    let groups: [&[Row]; 8] = [
        deaths::ROWS,
        hangs::ROWS,
        dependencies::ROWS,
        databases::ROWS,
        workers::ROWS,
        units::ROWS,
        host::ROWS,
        network::ROWS,
    ];
    let mut rows: Vec<Row> = groups.concat();
    rows.sort_by_key(Row::order);
    rows
}

impl Row {
    /// The number of its fault, and its variant.
    fn order(&self) -> (u32, &'static str) {
        let variant = self.number.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = self.number.strip_suffix(variant).unwrap_or(self.number);
        (number.parse().unwrap_or(u32::MAX), variant)
    }

    /// Whether a list such as `6,7` or `9b` selects it.
    pub fn is_in(&self, list: &str) -> bool {
        let number = self.order().0.to_string();
        list.split(',').map(str::trim).any(|selected| selected == self.number || selected == number)
    }

    /// Runs it on a thread of its own, so that a row that cannot even be done does not end the others.
    pub fn outcome(self, sight: Sight) -> Outcome {
        let run = move || {
            SIGHT.set(sight);
            (self.run)(&self)
        };
        let done = thread::Builder::new().name(format!("row {}", self.number)).spawn(run);
        let done = done.map_err(|error| format!("no thread can be had: {error}"));
        match done.and_then(|thread| thread.join().map_err(said)) {
            Ok(Some(measured)) => Outcome::Run(measured),
            Ok(None) => Outcome::NotRun,
            Err(why) => Outcome::Run(Measured { wrong: vec![why], ..Measured::default() }),
        }
    }
}

/// The message of a panic.
fn said(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}

/// Has panics of rows printed nowhere: they are part of the table.
pub fn keep_quiet_about_rows() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !thread::current().name().is_some_and(|name| name.starts_with("row ")) {
            usual(info);
        }
    }));
}
