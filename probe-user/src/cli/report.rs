//! `hostprobe report`.

mod figure;
mod html;
mod markup;
mod page;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args as ClapArgs;
use hostprobe::{
    config,
    emit::Origin,
    serve::control::{Answer, Request},
    store::{report::Report, state::Asker},
};

use super::{
    ask::{self, Failure},
    incidents::{down, say_in_json, unreadable},
    output::{complain, print, print_html, print_json},
};

#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit status: 0 if there is a report, 1 if there are no records of such a service.")]
pub struct Args {
    /// The time that the report covers, up to now, such as 24h
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = config::duration)]
    since: Duration,
    /// Of this service alone
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    daemon: ask::Daemon,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Write it as a page for browsers and paper; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

pub fn run(args: &Args) -> ExitCode {
    let (report, down) = match made(args) {
        Ok(made) => made,
        Err(failure) => return failure.end(),
    };
    if let (Some(service), true) = (&args.service, report.services.is_empty()) {
        let what = format!(
            "there are no records of a service {service:?}; `hostprobe report` lists those there are"
        );
        say_in_json(down.as_deref());
        return Failure::new(what, 1).end();
    }
    if args.json {
        say_in_json(down.as_deref());
        return print_json(&report);
    }
    match &args.html {
        None => print(&page::of(&report, down.as_deref())),
        Some(file) => {
            let host = Origin::read("/proc".as_ref()).host_name;
            write(file, &html::of(&report, &host, down.as_deref()))
        }
    }
}

/// Writes a page to a file, which is there as a whole or not at all.
fn write(file: &Path, page: &str) -> ExitCode {
    if file == Path::new("-") {
        return print_html(page);
    }
    let written = whole(file, page);
    if let Err(error) = written {
        complain(format_args!("hostprobe: {}: the report cannot be written: {error}", file.display()));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn whole(file: &Path, page: &str) -> io::Result<()> {
    let mut name = file.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let unfinished = file.with_file_name(name);
    let written = fs::File::create_new(&unfinished)
        .and_then(|mut created| io::Write::write_all(&mut created, page.as_bytes()))
        .and_then(|()| fs::rename(&unfinished, file));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// The report, and a sentence on where it is from if the daemon does not run.
fn made(args: &Args) -> Result<(Report, Option<String>), Failure> {
    let request = Request::Report { within: args.since.as_secs(), service: args.service.clone() };
    match args.daemon.ask(&request) {
        Ok(Answer::Report(report)) => Ok((*report, None)),
        Ok(
            Answer::Status(_)
            | Answer::Incidents(_)
            | Answer::Explanation(_)
            | Answer::Reload(_)
            | Answer::DrillPlan(_)
            | Answer::Drill(_)
            | Answer::AlertTest(_)
            | Answer::Done(_)
            | Answer::Error(_),
        ) => Err(ask::another_question()),
        Err(failure) => {
            let (reader, down) = down(&args.daemon, failure)?;
            let report = reader.report(args.since, args.service.as_deref(), Asker::Command);
            Ok((report.map_err(|error| unreadable(&error))?, Some(down)))
        }
    }
}
