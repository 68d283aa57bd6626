//! `hostprobe status`.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use hostprobe::{
    emit::{wire::CommandKind, word},
    serve::{
        control::{Answer, Request},
        status::{Order, Service, Status},
    },
};

use super::{
    ask,
    output::{Page, ago, counted, print, print_json},
    watch,
};

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    daemon: ask::Daemon,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Show it live in the terminal, until q is pressed
    #[arg(long, short, conflicts_with = "json")]
    watch: bool,
}

/// Prints the state of the services.
pub fn run(args: &Args) -> ExitCode {
    if args.watch {
        return watch::run(&args.daemon);
    }
    match args.daemon.ask(&Request::Status) {
        Err(failure) => failure.end(),
        Ok(Answer::Status(status)) if args.json => print_json(&status),
        Ok(Answer::Status(status)) => print(&page(&status)),
        Ok(
            Answer::Incidents(_)
            | Answer::Explanation(_)
            | Answer::Report(_)
            | Answer::Reload(_)
            | Answer::DrillPlan(_)
            | Answer::Drill(_)
            | Answer::AlertTest(_)
            | Answer::Done(_)
            | Answer::Error(_),
        ) => ask::unexpected(),
    }
}

fn page(status: &Status) -> Page {
    let mut page = Page::default();
    let attached = status.coverage.iter().filter(|hook| hook.attached).count();
    let watches = if status.ready { "watches" } else { "starts" };
    page.line(format_args!(
        "{} {watches} {} with {attached} of {} hooks; {} open, {} so far",
        status.host.name,
        counted(status.services.len() as u64, "service"),
        status.coverage.iter().filter(|hook| !hook.absent).count(),
        counted(status.counters.incidents_open, "incident"),
        counted(status.counters.restarts, "restart")
    ));
    if status.observes {
        page.line(format_args!("  it only observes (--observe): it restarts nothing"));
    }
    for hook in status.coverage.iter().filter(|hook| !hook.attached) {
        page.line(format_args!("  not seen: {}: {}", hook.hook, hook.reason.as_deref().unwrap_or("unknown")));
    }
    if status.counters.events_lost > 0 {
        page.line(format_args!("  lost on the way out: {}", counted(status.counters.events_lost, "event")));
    }
    for open in &status.host_incidents {
        page.line(format_args!("  host: {} ({}): {}", word(&open.verdict), open.incident, open.summary));
        if !open.held.is_empty() {
            page.line(format_args!("    held because of it: {}", open.held.join(", ")));
        }
    }
    let name = status.services.iter().map(|service| service.name.chars().count()).max().unwrap_or(0).max(7);
    page.line(format_args!(""));
    page.line(format_args!(
        "{:<name$}  {:<9}  {:<10}  {:>9}  DEPENDS ON",
        "SERVICE", "STATE", "SINCE", "ANSWER"
    ));
    for service in &status.services {
        let since = service.since.as_deref().and_then(|since| ago(since, &status.timestamp));
        let answer = service.response_time_ms.map_or_else(|| "-".to_owned(), |took| format!("{took:.1} ms"));
        page.line(format_args!(
            "{:<name$}  {:<9}  {:<10}  {:>9}  {}",
            service.name,
            word(&service.state),
            since.unwrap_or_else(|| "start".to_owned()),
            answer,
            depends_on(service)
        ));
        if let (Some(id), Some(verdict)) = (&service.incident, service.verdict) {
            let summary = service.summary.as_deref().unwrap_or_default();
            page.line(format_args!("  {} ({id}): {summary}", word(&verdict)));
        }
        if let Some(error) = service.error.as_ref().filter(|error| service.summary.as_ref() != Some(*error)) {
            page.line(format_args!("  {error}"));
        }
        if let Some(since) = service.stale_since.as_deref() {
            let since = ago(since, &status.timestamp).unwrap_or_else(|| since.to_owned());
            page.line(format_args!(
                "  last known state: hostprobe has not been able to watch it for {since}"
            ));
        }
        for order in &service.orders {
            page.line(format_args!("  {}", order_line(order, &status.timestamp)));
        }
        if let Some(window) = &service.maintenance {
            page.line(format_args!("  maintenance: {window}"));
        }
        if let Some(hold) = &service.hold {
            page.line(format_args!("  not restarted: {hold}"));
        }
        if !service.held.is_empty() {
            page.line(format_args!("  held because of it: {}", service.held.join(", ")));
        }
    }
    page
}

/// Such as `paused by alice (as root) 5 min ago, for 25 min more: the disk is replaced`.
fn order_line(order: &Order, now: &str) -> String {
    let done = match order.command {
        CommandKind::Stop => "stopped",
        CommandKind::Pause => "paused",
        CommandKind::Ack => "acknowledged",
        CommandKind::Start
        | CommandKind::Restart
        | CommandKind::Resume
        | CommandKind::Reload
        | CommandKind::Drill => "changed",
    };
    let since = ago(&order.since, now).map_or_else(String::new, |since| format!(" {since} ago"));
    let until = order.until.as_deref().and_then(|until| ago(now, until));
    let until = until.map_or_else(String::new, |left| format!(", for {left} more"));
    let reason = order.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{done} by {}{since}{until}{reason}", order.by)
}

fn depends_on(service: &Service) -> String {
    let words = service.depends_on.iter().map(|on| {
        let how = if on.learned { " (learned)" } else { "" };
        format!("{}{how}", on.service)
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}
