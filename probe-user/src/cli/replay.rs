//! `hostprobe replay`.

use std::{
    fmt::Write as _,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use hostprobe::{
    config::Config,
    replay::{Replay, Report, RunReport},
};

use super::{BAD_CONFIG, print};

/// Exit status: something would be decided otherwise.
const DIFFERS: u8 = 1;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit status: 0 if all is decided as it was, 1 if something differs, 2 for a bad file or configuration."
)]
pub struct Args {
    /// A file with events, as `hostprobe run --events FILE` writes it
    #[arg(value_name = "EVENTS")]
    events: PathBuf,
    /// The configuration to decide with: the one of then, or another to see what it would change
    #[arg(long)]
    config: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Replays a file.
pub fn run(args: &Args) -> ExitCode {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let report =
        match File::open(&args.events).and_then(|file| Replay::new(&config).read(BufReader::new(file))) {
            Ok(report) => report,
            Err(error) => {
                eprintln!("hostprobe: {} cannot be read: {error}", args.events.display());
                return ExitCode::from(BAD_CONFIG);
            }
        };
    if report.runs.iter().all(|run| run.of_services == 0) {
        eprintln!("hostprobe: {}", nothing(&report, &args.events));
        return ExitCode::from(BAD_CONFIG);
    }
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_or_else(|error| error.to_string(), |text| text + "\n")
    } else {
        in_words(&report)
    };
    let printed = print(&text);
    if report.same { printed } else { ExitCode::from(DIFFERS) }
}

/// Why there was nothing to replay.
fn nothing(report: &Report, file: &Path) -> String {
    let malformed = malformed(report).map(|words| format!("; {words}")).unwrap_or_default();
    let file = file.display();
    let unknown = report.runs.iter().flat_map(|run| &run.only_recorded).collect::<Vec<_>>();
    if unknown.is_empty() {
        format!(
            "{file} holds no recorded observations; expected the whole event stream of a daemon{malformed}"
        )
    } else {
        format!("{file} holds observations of other services only, such as {}{malformed}", unknown[0])
    }
}

fn malformed(report: &Report) -> Option<String> {
    let first = report.first_malformed?;
    Some(format!("{} lines are no events of this version, the first is line {first}", report.malformed))
}

fn in_words(report: &Report) -> String {
    let mut text = String::new();
    for run in &report.runs {
        // Writing to a string cannot fail.
        let _ = describe(run, &mut text);
    }
    let differing = report.runs.iter().flat_map(|run| &run.rows).filter(|row| !row.same).count();
    text.extend(malformed(report).map(|words| words + "\n"));
    text.push_str(&match differing {
        0 => "same: everything is decided as it was then\n".to_owned(),
        1 => "differs: 1 decision\n".to_owned(),
        more => format!("differs: {more} decisions\n"),
    });
    text
}

fn describe(run: &RunReport, text: &mut String) -> std::fmt::Result {
    writeln!(text, "run {}, {} to {}: {} observations", run.id, run.from, run.to, run.observations)?;
    for note in &run.notes {
        writeln!(text, "  note: {note}")?;
    }
    for service in &run.only_recorded {
        writeln!(text, "  note: {service} is in the recording only")?;
    }
    for service in &run.only_configured {
        writeln!(text, "  note: {service} is in the configuration only")?;
    }
    let wide = |words: &dyn Fn(&hostprobe::replay::Row) -> usize, least| {
        run.rows.iter().map(words).max().unwrap_or(0).clamp(least, 60)
    };
    let service = wide(&|row| row.service.chars().count(), 7);
    let then = wide(&|row| row.recorded.as_deref().unwrap_or("-").chars().count(), 8);
    let now = wide(&|row| row.replayed.as_deref().unwrap_or("-").chars().count(), 8);
    if run.rows.is_empty() {
        writeln!(text, "  nothing was decided, then or now")?;
    } else {
        writeln!(
            text,
            "  {:<24} {:<service$} {:<then$} {:<now$}",
            "TIME", "SERVICE", "RECORDED", "REPLAYED"
        )?;
    }
    for row in &run.rows {
        let time = row.timestamp.get(..23).unwrap_or(&row.timestamp);
        let (recorded, replayed) =
            (row.recorded.as_deref().unwrap_or("-"), row.replayed.as_deref().unwrap_or("-"));
        let verdict = if row.same { "same" } else { "DIFFERS" };
        writeln!(
            text,
            "  {time:<24} {:<service$} {recorded:<then$} {replayed:<now$} {verdict}",
            row.service
        )?;
    }
    writeln!(text)
}
