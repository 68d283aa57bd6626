//! `hostprobe incidents` and `hostprobe explain`.

use std::{fs::File, io::BufReader, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args as ClapArgs;
use hostprobe::{
    config,
    emit::{for_each_event, wire::Stacks, word},
    serve::control::{Answer, Request},
    store::{
        history::{Entry, Explanation, Further, History, Listed, What},
        recorded_pressure::add_pressure,
        state::{MOST_LISTED, Reader, ReaderError},
    },
};

use super::{
    ask,
    output::{BAD_CONFIG, NOT_POSSIBLE, Page, ago, complain, counted, print, print_json},
};

/// The groups of threads of which all calls are shown.
const GROUPS_SHOWN: usize = 3;

#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Those that were open within this time, such as 24h; without it, the latest 1000
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    since: Option<Duration>,
    /// Those of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    daemon: ask::Daemon,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit status: 0 if the incident is shown, 1 if there is none with this id.")]
pub struct ExplainArgs {
    /// The incident's id, or its last number: 3 for 1a2b3c4d-i3
    incident: String,
    #[command(flatten)]
    daemon: ask::Daemon,
    /// Read a recorded event stream instead of asking a daemon
    #[arg(long, value_name = "FILE", conflicts_with_all = ["socket", "config"])]
    events: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub fn list(args: &ListArgs) -> ExitCode {
    let (within, service) = (args.since, args.service.clone());
    let request = Request::Incidents { within: within.map(|within| within.as_secs()), service };
    let answer = args.daemon.ask(&request);
    let (incidents, down) = match answer {
        Err(failure) => match down(&args.daemon, failure) {
            Err(failure) => return failure.end(),
            Ok((reader, down)) => match reader.incidents(within, args.service.as_deref()) {
                Ok(incidents) => (incidents, Some(down)),
                Err(error) => return unreadable(&error).end(),
            },
        },
        Ok(Answer::Incidents(incidents)) => (incidents, None),
        Ok(
            Answer::Status(_)
            | Answer::Explanation(_)
            | Answer::Report(_)
            | Answer::Reload(_)
            | Answer::DrillPlan(_)
            | Answer::Drill(_)
            | Answer::AlertTest(_)
            | Answer::Done(_)
            | Answer::Error(_),
        ) => return ask::unexpected(),
    };
    if args.json {
        say_in_json(down.as_deref());
        return print_json(&incidents);
    }
    print(&list_page(&incidents, down.as_deref()))
}

/// Explains one incident.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let explained = match &args.events {
        Some(file) => from_file(file, &args.incident).map(|explanation| (explanation, None)),
        None => match args.daemon.ask(&Request::Explain { incident: args.incident.clone() }) {
            Ok(Answer::Explanation(explanation)) => Ok((*explanation, None)),
            Ok(
                Answer::Status(_)
                | Answer::Incidents(_)
                | Answer::Report(_)
                | Answer::Reload(_)
                | Answer::DrillPlan(_)
                | Answer::Drill(_)
                | Answer::AlertTest(_)
                | Answer::Done(_)
                | Answer::Error(_),
            ) => {
                return ask::unexpected();
            }
            Err(failure) => from_state(&args.daemon, failure, &args.incident),
        },
    };
    match explained {
        Err(failure) => failure.end(),
        Ok((explanation, down)) if args.json => {
            say_in_json(down.as_deref());
            print_json(&explanation)
        }
        Ok((explanation, down)) => print(&explanation_page(&explanation, down.as_deref())),
    }
}

/// The state file of a daemon that does not run, and a sentence that says so. The failure to reach it, if it may run.
pub(super) fn down(daemon: &ask::Daemon, failure: ask::Failure) -> Result<(Reader, String), ask::Failure> {
    if !failure.is_down() {
        return Err(failure);
    }
    let Some(directory) = daemon.state_directory()? else { return Err(failure) };
    let reader = match Reader::open(&directory) {
        Ok(reader) => reader,
        // There is nothing to show, so that no daemon runs is the answer.
        Err(ReaderError::Missing(_)) => return Err(failure),
        Err(error) => return Err(unreadable(&error)),
    };
    let down = format!("the daemon does not run; this is from {}", reader.path().display());
    Ok((reader, down))
}

fn from_state(
    daemon: &ask::Daemon,
    failure: ask::Failure,
    incident: &str,
) -> Result<(Explanation, Option<String>), ask::Failure> {
    let (reader, down) = down(daemon, failure)?;
    let explained = reader.explain(incident).map_err(|error| unreadable(&error))?;
    let mut explanation = explained.map_err(|none| ask::Failure::new(none.in_words(incident), 1))?;
    if let Some(directory) = daemon.state_directory()? {
        add_pressure(&mut explanation, &directory);
    }
    Ok((explanation, Some(down)))
}

pub(super) fn unreadable(error: &ReaderError) -> ask::Failure {
    ask::Failure::new(error.to_string(), NOT_POSSIBLE)
}

/// Beside an answer in JSON, a sentence for people goes to standard error.
pub(super) fn say_in_json(down: Option<&str>) {
    if let Some(down) = down {
        complain(format_args!("hostprobe: {down}"));
    }
}

fn from_file(file: &PathBuf, incident: &str) -> Result<Explanation, ask::Failure> {
    let mut history = History::new(usize::MAX);
    let mut bad = 0_u64;
    let read = File::open(file).and_then(|events| {
        for_each_event(BufReader::new(events), |_, record| match record {
            Some(record) => _ = history.take(record),
            None => bad += 1,
        })
    });
    read.map_err(|error| {
        ask::Failure::new(format!("{} cannot be read: {error}", file.display()), BAD_CONFIG)
    })?;
    if bad > 0 {
        complain(format_args!(
            "hostprobe: {}: {} of it are no events of this version",
            file.display(),
            counted(bad, "line")
        ));
    }
    history.explain(incident).map_err(|none| ask::Failure::new(none.in_words(incident), 1))
}

fn list_page(incidents: &[Listed], down: Option<&str>) -> Page {
    let mut page = Page::of(down);
    if incidents.is_empty() {
        page.line(format_args!("no incidents"));
        return page;
    }
    let service = incidents.iter().map(|incident| incident.service.chars().count()).max().unwrap_or(0).max(7);
    page.line(format_args!(
        "{:<12}  {:<19}  {:<service$}  {:<16}  STATE",
        "INCIDENT", "SINCE", "SERVICE", "VERDICT"
    ));
    for incident in incidents {
        let verdict = incident.verdict.map(|verdict| word(&verdict)).unwrap_or_default();
        let since = incident.since.as_deref().and_then(|since| since.get(..19)).unwrap_or("-");
        page.line(format_args!(
            "{:<12}  {since:<19}  {:<service$}  {verdict:<16}  {}",
            incident.id,
            incident.service,
            phase_text(incident)
        ));
        page.line(format_args!("  {}", incident.summary.as_deref().unwrap_or_default()));
        if let Some(hold) = &incident.hold {
            page.line(format_args!("  not restarted: {hold}"));
        }
    }
    if incidents.len() == MOST_LISTED as usize {
        page.line(format_args!("these are the latest {MOST_LISTED}; --since and --service show others"));
    }
    page
}

fn phase_text(incident: &Listed) -> String {
    let tried = match incident.attempts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        times => format!(", restarted {times} times"),
    };
    match (&incident.since, &incident.until) {
        (Some(since), Some(until)) => {
            let after = ago(since, until).map(|after| format!(" after {after}")).unwrap_or_default();
            format!("over{after}{tried}")
        }
        (_, None) => format!("OPEN{tried}"),
        (None, Some(_)) => format!("over{tried}"),
    }
}

/// What the threads waited for, and where most of them were.
fn show_stacks(stacks: &Stacks, page: &mut Page) {
    page.line(format_args!("  threads:    {}", stacks.summary));
    for line in stacks.missing.iter().flatten() {
        page.line(format_args!("              {line}"));
    }
    for group in stacks.groups.iter().take(GROUPS_SHOWN) {
        page.line(format_args!("    {} {}:", group.threads, group.waits));
        for frame in &group.frames {
            page.line(format_args!("      {frame}"));
        }
    }
}

pub(super) fn explanation_page(explanation: &Explanation, down: Option<&str>) -> Page {
    let mut page = Page::of(down);
    let incident = &explanation.incident;
    let verdict = incident.verdict.map(|verdict| word(&verdict)).unwrap_or_default();
    page.line(format_args!("{}: {} {verdict}", incident.id, explanation.service));
    page.line(format_args!("  {}", incident.summary.as_deref().unwrap_or_default()));
    headed(&mut page, "changes:", incident.changes.as_deref());
    let percent = incident.confidence.map(|sure| format!("{:.0} %", sure * 100.0)).unwrap_or_default();
    page.line(format_args!("  fault:      {}", incident.since.as_deref().unwrap_or("-")));
    page.line(format_args!("  confidence: {percent}"));
    if let Some(severity) = incident.severity {
        page.line(format_args!("  severity:   {}", word(&severity)));
    }
    if let Some(cause) = incident.cause.as_ref().filter(|cause| cause.service != explanation.service) {
        page.line(format_args!("  cause:      {}", cause.service));
    }
    if let Some(held) = incident.held.as_ref().filter(|held| !held.is_empty()) {
        page.line(format_args!("  held:       {}", held.join(", ")));
    }
    page.line(format_args!("  restarts:   {}", incident.attempts.unwrap_or(0)));
    if let Some(file) = &incident.snapshot {
        page.line(format_args!("  snapshot:   {file}"));
    }
    let blamed = [
        ("memory:", incident.culprit.as_ref().map(|it| &it.text)),
        ("by:", incident.actor.as_ref().map(|it| &it.text)),
    ];
    for (heading, text) in blamed {
        if let Some(text) = text {
            page.line(format_args!("  {heading:<11} {text}"));
        }
    }
    if let Some(crash) = &incident.crash {
        page.line(format_args!("  crash:      {}", crash.summary));
        for (heading, text) in [("line:", &crash.line), ("core dump:", &crash.core)] {
            if let Some(text) = text {
                page.line(format_args!("  {heading:<11} {text}"));
            }
        }
        headed(&mut page, "stack:", crash.stack.as_deref());
    }
    if let Some(stacks) = &incident.stacks {
        show_stacks(stacks, &mut page);
    }
    headed(&mut page, "last lines:", incident.logs.as_deref());
    page.line(format_args!("  outcome:    {}", explanation.until.as_ref().map_or("open", |_| "over")));
    if let Some(timing) = incident.timing {
        let steps = [
            ("detected", timing.detected_ms),
            ("decided", timing.decided_ms),
            ("acted", timing.acted_ms),
            ("listening", timing.listening_ms),
            ("healthy", timing.healthy_ms),
        ];
        let steps = steps.into_iter().filter_map(|(step, ms)| Some(format!("{step} {}", offset(ms?))));
        page.line(format_args!("  timing:     {}", steps.collect::<Vec<_>>().join(", ")));
    }
    page.line(format_args!(""));
    page.line(format_args!(
        "  from a minute before the fault; * is evidence, ! a change, ~ another service or the host:"
    ));
    for entry in &explanation.timeline {
        let mark = mark(entry, &explanation.service);
        page.line(format_args!("  {:>12} {mark} {}", offset(entry.after_ms), entry.message));
    }
    if explanation.left_out > 0 {
        let events = counted(explanation.left_out, "event");
        page.line(format_args!("  not kept, from the middle: {events}"));
    }
    if explanation.left_out_around > 0 {
        let events = counted(explanation.left_out_around, "event");
        page.line(format_args!("  not kept, of what happened around it: {events}"));
    }
    if !explanation.missing.is_empty() {
        page.line(format_args!("  evidence that is no longer at hand: {}", explanation.missing.join(", ")));
    }
    page
}

/// Lines of which the first has a heading.
fn headed(page: &mut Page, heading: &str, lines: Option<&[String]>) {
    for (nth, line) in lines.into_iter().flatten().enumerate() {
        let heading = if nth == 0 { heading } else { "" };
        page.line(format_args!("  {heading:<11} {line}"));
    }
}

fn mark(entry: &Entry, service: &str) -> char {
    match entry.action {
        _ if entry.evidence => '*',
        What::Further(Further::Change) => '!',
        What::Further(Further::Pressure) => '~',
        What::Event(_) if entry.service.as_deref() == Some(service) => ' ',
        What::Event(_) => '~',
    }
}

/// Milliseconds as a signed span, for people.
fn offset(ms: f64) -> String {
    match ms.abs() {
        small if small < 1000.0 => format!("{ms:+.1} ms"),
        seconds if seconds < 600_000.0 => format!("{:+.2} s", ms / 1000.0),
        _ => format!("{:+.0} min", ms / 60_000.0),
    }
}
