//! `hostprobe events`.

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args as ClapArgs;
use hostprobe::{
    config::EventOutput,
    emit::{action::Action, for_each_line, wire::Record, word},
    escape::escaped,
    fact::is_incident_meant,
    serve::control::Streamed,
};

use super::{
    ask::{self, Failure},
    output::{BAD_CONFIG, complain, counted},
};

/// The wait before the next try to reach a daemon that went away.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, ClapArgs)]
#[command(after_help = "Without --follow, the events are read from the file that the daemon writes them to.")]
pub struct Args {
    /// Show the events from now on as they come, until interrupted
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    daemon: ask::Daemon,
    /// Read this file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "socket", "config"])]
    events: Option<PathBuf>,
    /// Show them as they are in the stream: JSON, a line each
    #[arg(long)]
    json: bool,
}

/// What an event must have to be shown.
#[derive(Debug, ClapArgs)]
struct Filter {
    /// Those of this incident: its id, or its last number
    #[arg(long, value_name = "INCIDENT")]
    incident: Option<String>,
    /// Those of this service; may be given several times
    #[arg(long, value_name = "SERVICE")]
    service: Vec<String>,
    /// Those with this action, such as incident.open, or of this kind, such as incident; may be given several times
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Vec<String>,
}

/// The events that were shown, and the way they are.
struct Shower<'a> {
    args: &'a Args,
    shown: u64,
}

/// Standard output takes no more.
struct Closed(io::Error);

pub fn run(args: &Args) -> ExitCode {
    let mut shower = Shower { args, shown: 0 };
    let shown = if args.follow { shower.follow() } else { shower.read() };
    match shown {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Closed(error))) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(Err(Closed(error))) => Failure::new(format!("standard output: {error}"), 1).end(),
        Err(failure) => failure.end(),
    }
}

impl Filter {
    fn admits(&self, record: &Record) -> bool {
        let incident = record.incident.as_ref();
        let service = record.service.as_ref();
        let action = word(&record.event.action);
        self.incident.as_ref().is_none_or(|word| incident.is_some_and(|it| is_incident_meant(word, &it.id)))
            && (self.service.is_empty() || service.is_some_and(|it| self.service.contains(&it.name)))
            && (self.action.is_empty() || self.action.iter().any(|word| is_of(word, &action)))
    }
}

/// Whether an action is the one with this word, or of this kind.
fn is_of(word: &str, action: &str) -> bool {
    action.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn action(value: &str) -> Result<String, String> {
    let actions = Action::ALL.map(|action| word(&action));
    if actions.iter().any(|action| is_of(value, action)) {
        return Ok(value.to_owned());
    }
    Err(format!("no event has it; expected one of {}", actions.join(", ")))
}

impl Shower<'_> {
    /// Shows the events of a running daemon, also of the one that follows it.
    fn follow(&mut self) -> Result<Result<(), Closed>, Failure> {
        let mut last = None;
        let mut events = self.args.daemon.watch(None)?;
        loop {
            match events.next()? {
                Some(Streamed::Event(json)) => {
                    let json = json.get().as_bytes();
                    let record = serde_json::from_slice::<Record>(json).ok();
                    last = record.as_ref().map(|record| record.event.id.clone()).or(last);
                    if let Err(closed) = self.show(record.as_ref(), json) {
                        return Ok(Err(closed));
                    }
                }
                Some(Streamed::Missed(count)) => {
                    let what = count.map_or_else(
                        || "events may have been missed".to_owned(),
                        |count| format!("{} missed", counted(count, "event")),
                    );
                    complain(format_args!("hostprobe: {what}"));
                }
                None => {
                    complain(format_args!("hostprobe: the daemon ended; waiting for the next one"));
                    events = self.wait_for_next(last.as_ref())?;
                }
            }
        }
    }

    fn wait_for_next(&self, last: Option<&String>) -> Result<ask::Events, Failure> {
        loop {
            thread::sleep(PAUSE);
            match self.args.daemon.watch(last.cloned()) {
                Err(failure) if failure.is_down() => {}
                watched => return watched,
            }
        }
    }

    /// Shows the events of a file.
    fn read(&mut self) -> Result<Result<(), Closed>, Failure> {
        let path = match &self.args.events {
            Some(file) => file.clone(),
            None => {
                let outputs = self.args.daemon.outputs()?;
                let file = outputs.iter().find_map(|output| match output {
                    EventOutput::File(file) => Some(file.clone()),
                    EventOutput::Stdout
                    | EventOutput::Unix(_)
                    | EventOutput::Tcp { .. }
                    | EventOutput::Journald => None,
                });
                let why = || {
                    let outputs = outputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
                    let why = format!(
                        "the daemon writes its events to {outputs}, and to no file that could be read here; --follow \
                         shows those to come, and --events reads a file"
                    );
                    Failure::new(why, 1)
                };
                file.ok_or_else(why)?
            }
        };
        let unreadable = |error: io::Error| {
            Failure::new(format!("{} cannot be read: {error}", path.display()), BAD_CONFIG)
        };
        let mut bad = 0_u64;
        let mut shown = Ok(());
        let file = File::open(&path).map_err(unreadable)?;
        for_each_line(BufReader::new(file), |_, line| {
            if shown.is_err() {
                return;
            }
            match line.map(|line| (line, serde_json::from_slice::<Record>(line))) {
                Some((line, Ok(record))) => shown = self.show(Some(&record), line),
                Some((_, Err(_))) | None => bad += 1,
            }
        })
        .map_err(unreadable)?;
        self.complain_of(bad, &path);
        Ok(shown)
    }

    fn complain_of(&self, bad: u64, path: &Path) {
        if bad > 0 {
            let (lines, path) = (counted(bad, "line"), path.display());
            complain(format_args!("hostprobe: {path}: {lines} of it are no events of this version"));
        }
        if self.shown == 0 {
            complain(format_args!("hostprobe: {} has no such events", path.display()));
        }
    }

    /// Shows an event if the filter admits it. One of another version is shown in JSON.
    fn show(&mut self, record: Option<&Record>, json: &[u8]) -> Result<(), Closed> {
        if record.is_some_and(|record| !self.args.filter.admits(record)) {
            return Ok(());
        }
        self.shown += 1;
        let mut line = match record {
            Some(record) if !self.args.json => text(record).into_bytes(),
            _ => json.to_vec(),
        };
        line.push(b'\n');
        io::stdout().lock().write_all(&line).map_err(Closed)
    }
}

/// Such as `2026-11-29T10:00:00.123Z warn  incident.open     api crashed: ended by signal 11`.
fn text(record: &Record) -> String {
    let time = record.timestamp.get(..23).unwrap_or(&record.timestamp);
    let (level, action) = (word(&record.log.level), word(&record.event.action));
    escaped(&format!("{time}Z {level:<5} {action:<18} {}", record.message)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_meant_by_its_word_or_its_kind() {
        assert!(is_of("incident", "incident.open") && is_of("incident.open", "incident.open"));
        assert!(!is_of("inc", "incident.open") && !is_of("incident.", "incident.open") && !is_of("", "x.y"));
        assert_eq!(action("restart"), Ok("restart".to_owned()));
        assert!(action("restart.dance").unwrap_err().contains("restart.hold"));
    }
}
