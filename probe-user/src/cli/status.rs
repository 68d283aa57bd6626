//! `hostprobe status`.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args as ClapArgs;
use hostprobe::{
    emit::word,
    serve::{
        control::{Answer, Request},
        status::{Service, Status},
    },
};

use super::{
    ask,
    output::{ago, print, print_json},
};

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    daemon: ask::Daemon,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Prints the state of the services.
pub fn run(args: &Args) -> ExitCode {
    match args.daemon.ask(&Request::Status) {
        Err(failure) => failure.end(),
        Ok(Answer::Status(status)) if args.json => print_json(&status),
        Ok(Answer::Status(status)) => print(&in_words(&status)),
        Ok(Answer::Incidents(_) | Answer::Explanation(_) | Answer::Error(_)) => ask::unexpected(),
    }
}

fn in_words(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(status, &mut text);
    text
}

fn write(status: &Status, text: &mut String) -> std::fmt::Result {
    let attached = status.coverage.iter().filter(|hook| hook.attached).count();
    let watches = if status.ready { "watches" } else { "starts" };
    writeln!(
        text,
        "{} {watches} {} with {attached} of {} hooks; {} open, {} so far",
        status.host.name,
        counted(status.services.len() as u64, "service"),
        status.coverage.len(),
        counted(status.counters.incidents_open, "incident"),
        counted(status.counters.restarts, "restart"),
    )?;
    for hook in status.coverage.iter().filter(|hook| !hook.attached) {
        writeln!(text, "  not seen: {}: {}", hook.hook, hook.reason.as_deref().unwrap_or("unknown"))?;
    }
    if status.counters.events_lost > 0 {
        writeln!(text, "  {} events were lost on their way out", status.counters.events_lost)?;
    }
    let name = status.services.iter().map(|service| service.name.chars().count()).max().unwrap_or(0).max(7);
    writeln!(text, "\n{:<name$}  {:<9}  {:<10}  {:>9}  DEPENDS ON", "SERVICE", "STATE", "SINCE", "ANSWER")?;
    for service in &status.services {
        let since = service.since.as_deref().and_then(|since| ago(since, &status.timestamp));
        let answer = service.response_time_ms.map_or_else(|| "-".to_owned(), |took| format!("{took:.1} ms"));
        writeln!(
            text,
            "{:<name$}  {:<9}  {:<10}  {:>9}  {}",
            service.name,
            word(&service.state),
            since.unwrap_or_else(|| "start".to_owned()),
            answer,
            depends_on(service),
        )?;
        if let (Some(id), Some(verdict)) = (&service.incident, service.verdict) {
            let summary = service.summary.as_deref().unwrap_or_default();
            writeln!(text, "  {} ({id}): {summary}", word(&verdict))?;
        }
        if let Some(error) = service.error.as_ref().filter(|error| service.summary.as_ref() != Some(*error)) {
            writeln!(text, "  {error}")?;
        }
        if let Some(hold) = &service.hold {
            writeln!(text, "  not restarted: {hold}")?;
        }
        if !service.held.is_empty() {
            writeln!(text, "  held because of it: {}", service.held.join(", "))?;
        }
    }
    Ok(())
}

fn depends_on(service: &Service) -> String {
    let words = service.depends_on.iter().map(|on| {
        let how = if on.learned { " (learned)" } else { "" };
        format!("{}{how}", on.service)
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
