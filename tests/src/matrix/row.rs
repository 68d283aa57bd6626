//! A row of the fault matrix, and how it went.

use std::thread;

use super::source::Source;

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

/// What a row measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The verdicts of the service's incident, in order, each once.
    pub verdicts: Vec<String>,
    /// How sure the daemon was at first, 0 to 1.
    pub confidence: Option<f64>,
    /// How often any service was restarted.
    pub restarts: usize,
    /// From the fault until the daemon knew, in milliseconds.
    pub detected_ms: Option<f64>,
    /// From the fault until the service was well again, in milliseconds.
    pub healthy_ms: Option<f64>,
    /// Restarts of services that were well, or beyond what the fault needed.
    pub false_actions: usize,
    /// What is wrong, a sentence each.
    pub wrong: Vec<String>,
}

impl Measured {
    /// Adds what is wrong if it is not so.
    pub fn expect(&mut self, so: bool, wrong: impl FnOnce() -> String) {
        if !so {
            self.wrong.push(wrong());
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

impl Row {
    /// The number of its fault, and its variant.
    pub fn order(&self) -> (u32, &'static str) {
        let variant = self.number.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = self.number.strip_suffix(variant).unwrap_or(self.number);
        (number.parse().unwrap_or(u32::MAX), variant)
    }

    /// Whether a list such as `6,7` or `9b` selects it.
    pub fn is_in(&self, list: &str) -> bool {
        let number = self.order().0.to_string();
        list.split(',').map(str::trim).any(|selected| selected == self.number || selected == number)
    }

    /// Whether what it does is felt by the daemons of other rows: it takes a processor.
    pub fn disturbs_others(&self) -> bool {
        self.number == "16"
    }

    /// Runs the row on its own thread: a panic in one row must not end the others.
    pub fn outcome(self, source: Source) -> Outcome {
        let run = move || {
            source.set_for_row();
            (self.run)(&self)
        };
        let done = thread::Builder::new().name(format!("row {}", self.number)).spawn(run);
        let done = done.map_err(|error| format!("cannot start a thread: {error}"));
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
