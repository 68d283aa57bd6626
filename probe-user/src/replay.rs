//! Runs the engine again on a recording, with any configuration, and compares its decisions with the recorded ones.

mod compare;
mod ledger;
mod run;
mod scope;

use std::io::{self, BufRead};

pub use compare::Row;
use run::Run;
pub use run::RunReport;
pub use scope::Scope;
use serde::Serialize;

use crate::{config::Config, emit::for_each_line, store::recording::line::Line};

/// What a replay found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether the engine decided everything as it did then.
    pub same: bool,
    /// Run by run of the daemon.
    pub runs: Vec<RunReport>,
    /// Lines that are no lines of a recording.
    pub malformed: u64,
    /// The place of the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_malformed: Option<String>,
}

/// A replay in progress.
pub struct Replay<'a> {
    config: &'a Config,
    scope: Scope,
    run: Option<Run<'a>>,
    report: Report,
}

impl<'a> Replay<'a> {
    /// A replay with this configuration, which reports what is in the scope.
    pub fn new(config: &'a Config, scope: Scope) -> Self {
        let report = Report { same: true, runs: Vec::new(), malformed: 0, first_malformed: None };
        Self { config, scope, run: None, report }
    }

    /// Reads a file of the recording; `name` is for people. Fails only if it cannot be read.
    pub fn read(&mut self, name: &str, recording: impl BufRead) -> io::Result<()> {
        for_each_line(recording, |number, line| {
            match line.and_then(|line| serde_json::from_slice(line).ok()) {
                Some(line) => self.take(line),
                None => {
                    self.report.malformed += 1;
                    self.report.first_malformed.get_or_insert_with(|| format!("line {number} of {name}"));
                }
            }
        })
    }

    /// Ends the last run, and reports all of them.
    pub fn finish(mut self) -> Report {
        self.end_run();
        self.report.same = self.report.runs.iter().all(RunReport::is_same);
        self.report
    }

    fn take(&mut self, line: Line) {
        if self.run.as_ref().is_none_or(|run| run.id() != line.run) {
            self.end_run();
            self.run = Some(Run::new(self.config, line.run.clone()));
        }
        if let Some(run) = &mut self.run {
            run.take(line);
        }
    }

    fn end_run(&mut self) {
        self.report.runs.extend(self.run.take().and_then(|run| run.finish(&self.scope)));
    }
}

#[cfg(test)]
mod tests;
