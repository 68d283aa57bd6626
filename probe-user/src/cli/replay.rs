//! `hostprobe replay`.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use hostprobe::{
    config::Config,
    replay::{Replay, Report, RunReport, Scope},
    store::recording::segment,
};

use super::{
    output::{BAD_CONFIG, Page, complain, complain_all, counted, print, print_json},
    waiting::Waiting,
};

/// Exit status: some decision differs.
const DIFFERS: u8 = 1;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit status: 0 if all is decided as it was, 1 if something differs, 2 for a bad file or configuration."
)]
pub struct Args {
    /// The recording: a segment, or a state directory [default: the configuration's state directory]
    #[arg(value_name = "RECORDING")]
    recording: Option<PathBuf>,
    /// The configuration to decide with: the recorded one, or another to see its effect
    #[arg(long)]
    config: PathBuf,
    /// Compare the decisions since then only: a time such as 2026-01-31T12:00:00Z, or an age such as 24h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<jiff::Timestamp>,
    /// Compare the decisions about one incident only: its id, or its last number
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            complain_all(&errors);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let place = args.recording.as_deref().unwrap_or(&config.state.directory);
    let scope = Scope { since: args.since, incident: args.incident.clone() };
    let waiting = Waiting::begin("the decisions of the recording");
    let replayed = replay(place, &config, scope);
    drop(waiting);
    let report = match replayed {
        Ok(report) => report,
        Err(error) => {
            complain(format_args!("hostprobe: {error}"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if report.runs.iter().all(|run| run.of_services == 0) {
        complain(format_args!("hostprobe: {}", nothing(&report, place, args)));
        return ExitCode::from(BAD_CONFIG);
    }
    let printed = if args.json { print_json(&report) } else { print(&page(&report)) };
    if report.same { printed } else { ExitCode::from(DIFFERS) }
}

fn replay(place: &Path, config: &Config, scope: Scope) -> Result<Report, String> {
    let unreadable = |path: &Path, error: io::Error| format!("{}: cannot be read: {error}", path.display());
    let files = segment::files(place).map_err(|error| unreadable(place, error))?;
    let mut replay = Replay::new(config, scope);
    for path in files {
        let file = match File::open(&path) {
            Ok(file) => file,
            // A running daemon deleted its oldest segment meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != place => continue,
            Err(error) => return Err(unreadable(&path, error)),
        };
        replay
            .read(&path.display().to_string(), BufReader::new(file))
            .map_err(|error| unreadable(&path, error))?;
    }
    Ok(replay.finish())
}

/// Reads a time, or an age.
fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    let expected =
        || format!("{text}: expected a time such as 2026-01-31T12:00:00Z, or a time ago such as 24h");
    if let Ok(timestamp) = text.parse() {
        return Ok(timestamp);
    }
    let ago: jiff::SignedDuration = text.parse().map_err(|_| expected())?;
    jiff::Timestamp::now().checked_sub(ago).map_err(|_| expected())
}

/// Why there was nothing to replay.
fn nothing(report: &Report, place: &Path, args: &Args) -> String {
    let malformed = malformed(report).map(|words| format!("; {words}")).unwrap_or_default();
    let place = place.display();
    let unknown = report.runs.iter().flat_map(|run| &run.only_recorded).next();
    match (unknown, &args.incident) {
        (Some(service), _) => {
            format!("{place}: holds observations of other services only, such as {service}{malformed}")
        }
        (None, Some(incident)) => {
            format!("{place}: the recording has no decision on incident {incident}{malformed}")
        }
        (None, None) => format!(
            "{place}: holds no recorded observations; expected a segment of a daemon's recording, or its state \
             directory{malformed}"
        ),
    }
}

fn malformed(report: &Report) -> Option<String> {
    let first = report.first_malformed.as_ref()?;
    Some(format!("{} lines are no recording of this version, the first is {first}", report.malformed))
}

fn page(report: &Report) -> Page {
    let mut page = Page::default();
    for run in &report.runs {
        describe(run, &mut page);
    }
    let differing = report.runs.iter().flat_map(|run| &run.rows).filter(|row| !row.same).count();
    if let Some(words) = malformed(report) {
        page.line(format_args!("{words}"));
    }
    match differing {
        0 => page.line(format_args!("same: everything is decided as it was then")),
        more => page.line(format_args!("differs: {}", counted(more as u64, "decision"))),
    }
    page
}

fn describe(run: &RunReport, page: &mut Page) {
    page.line(format_args!("run {}, {} to {}: {} observations", run.id, run.from, run.to, run.observations));
    for note in &run.notes {
        page.line(format_args!("  note: {note}"));
    }
    for service in &run.only_recorded {
        page.line(format_args!("  note: {service} is in the recording only"));
    }
    for service in &run.only_configured {
        page.line(format_args!("  note: {service} is in the configuration only"));
    }
    let wide = |words: &dyn Fn(&hostprobe::replay::Row) -> usize, least| {
        run.rows.iter().map(words).max().unwrap_or(0).clamp(least, 60)
    };
    let service = wide(&|row| row.service.chars().count(), 7);
    let then = wide(&|row| row.recorded.as_deref().unwrap_or("-").chars().count(), 8);
    let now = wide(&|row| row.replayed.as_deref().unwrap_or("-").chars().count(), 8);
    if run.rows.is_empty() {
        page.line(format_args!("  nothing was decided, then or now"));
    } else {
        page.line(format_args!(
            "  {:<24} {:<service$} {:<then$} {:<now$}",
            "TIME", "SERVICE", "RECORDED", "REPLAYED"
        ));
    }
    for row in &run.rows {
        let time = row.timestamp.get(..23).unwrap_or(&row.timestamp);
        let (recorded, replayed) =
            (row.recorded.as_deref().unwrap_or("-"), row.replayed.as_deref().unwrap_or("-"));
        let verdict = if row.same { "same" } else { "DIFFERS" };
        page.line(format_args!(
            "  {time:<24} {:<service$} {recorded:<then$} {replayed:<now$} {verdict}",
            row.service
        ));
    }
    page.line(format_args!(""));
}
