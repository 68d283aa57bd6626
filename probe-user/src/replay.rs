//! The recording of what the engine took in, and the engine run on it again.
//!
//! The daemon says each observation in the event stream ([`recorder`] leaves out what could change nothing), with
//! services by name ([`portable`]). [`Replay`] reads such a stream, runs the engine on it with any configuration,
//! and holds what it decides against what was decided then.

mod compare;
mod decision;
pub mod portable;
pub mod recorder;
mod run;

use std::io::{self, BufRead};

pub use compare::Row;
pub use decision::Decision;
use run::Run;
pub use run::RunReport;
use serde::Serialize;

use crate::{
    config::Config,
    emit::{self, wire},
};

/// What a replay found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether everything was decided as it was then.
    pub same: bool,
    /// Run by run of the daemon.
    pub runs: Vec<RunReport>,
    /// Lines that are no events.
    pub malformed: u64,
    /// The number of the first of them, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_malformed: Option<u64>,
}

/// A replay in progress.
pub struct Replay<'a> {
    config: &'a Config,
    run: Option<Run<'a>>,
    report: Report,
}

impl<'a> Replay<'a> {
    /// A replay with this configuration.
    pub fn new(config: &'a Config) -> Self {
        let report = Report { same: true, runs: Vec::new(), malformed: 0, first_malformed: None };
        Self { config, run: None, report }
    }

    /// Reads a whole stream; fails only if it cannot be read.
    pub fn read(mut self, stream: impl BufRead) -> io::Result<Report> {
        for_each_event(stream, |number, record| match record {
            Some(record) => self.take(record),
            None => {
                self.report.malformed += 1;
                self.report.first_malformed.get_or_insert(number);
            }
        })?;
        self.end_run();
        self.report.same = self.report.runs.iter().all(RunReport::is_same);
        Ok(self.report)
    }

    fn take(&mut self, record: wire::Record) {
        if self.run.as_ref().is_none_or(|run| run.id() != record.agent.ephemeral_id) {
            self.end_run();
            self.run = Some(Run::new(self.config, record.agent.ephemeral_id.clone()));
        }
        if let Some(run) = &mut self.run {
            run.take(record);
        }
    }

    fn end_run(&mut self) {
        self.report.runs.extend(self.run.take().map(Run::finish));
    }
}

/// Executor over each line of a stream with its number from 1: the event it is, or None for one that is not an event.
/// Empty lines are passed over; of a line longer than any event, no more is kept than shows that.
pub fn for_each_event(
    mut stream: impl BufRead,
    mut take: impl FnMut(u64, Option<wire::Record>),
) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut read = 0;
        loop {
            let chunk = match stream.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(chunk.len(), |at| at + 1);
            if line.len() <= emit::MAX_LINE {
                line.extend_from_slice(&chunk[..end.unwrap_or(taken)]);
            }
            stream.consume(taken);
            read += taken;
            if end.is_some() || taken == 0 {
                break;
            }
        }
        if read == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            let whole = (line.len() <= emit::MAX_LINE).then_some(&line);
            take(number, whole.and_then(|line| serde_json::from_slice(line).ok()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
