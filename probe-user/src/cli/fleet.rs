//! `hostprobe fleet`: all hosts, as any of them can show them.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args as ClapArgs, Subcommand};
use hostprobe::{
    config::{Config, Fleet},
    emit::Origin,
    fleet::view::{self, Host},
};
use serde_json::Value;

use super::{
    argument::DEFAULT_CONFIG,
    output::{BAD_CONFIG, NOT_POSSIBLE, Page, complain, complain_all, print, print_json},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show each host and its services that are not well
    Status(Args),
    /// List the open incidents of all hosts
    Incidents(Args),
    /// Follow incidents and states of services on all hosts
    Watch(Args),
}

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The configuration file, whose [fleet] names the servers [default: /etc/hostprobe/hostprobe.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON; with `watch`, an event a line
    #[arg(long)]
    json: bool,
}

/// Exit status: 0 if all is well, 1 if a host is silent or an incident is open.
pub fn run(command: Command) -> ExitCode {
    let (Command::Status(args) | Command::Incidents(args) | Command::Watch(args)) = &command;
    let file = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(errors) => {
            complain_all(&errors);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let Some(fleet) = config.fleet else {
        complain(format_args!("hostprobe: {}: has no [fleet]; this host takes part in none", file.display()));
        return ExitCode::from(BAD_CONFIG);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("hostprobe: cannot run: the runtime does not start: {error}"));
            return ExitCode::from(NOT_POSSIBLE);
        }
    };
    let host = Origin::read("/proc".as_ref()).host_name;
    let answer = runtime.block_on(answer(&command, &fleet, &host));
    answer.unwrap_or_else(|why| {
        complain(format_args!("hostprobe: fleet: {why}"));
        ExitCode::from(NOT_POSSIBLE)
    })
}

async fn answer(command: &Command, fleet: &Fleet, host: &str) -> Result<ExitCode, String> {
    let (hosts, page) = match command {
        Command::Watch(args) => return watch(fleet, host, args.json).await,
        Command::Status(args) => {
            let hosts = view::hosts(fleet, host).await?;
            let page = if args.json { print_json(&hosts) } else { print(&Page::of(status(&hosts))) };
            (hosts, page)
        }
        Command::Incidents(args) => {
            let hosts = view::hosts(fleet, host).await?;
            let page =
                if args.json { print_json(&open(&hosts)) } else { print(&Page::of(incidents(&hosts))) };
            (hosts, page)
        }
    };
    let is_well =
        hosts.iter().all(|host| !host.is_silent && host.services.iter().all(|it| it.incident.is_none()));
    Ok(if is_well { page } else { ExitCode::FAILURE })
}

fn status(hosts: &[Host]) -> Vec<String> {
    let mut lines = Vec::new();
    for host in hosts {
        let unwell: Vec<_> = host.services.iter().filter(|service| service.state != "healthy").collect();
        let (all, well) = (host.services.len() + host.left_out, host.services.len() - unwell.len());
        let heard = match (host.is_silent, host.heard_ms) {
            (false, _) => "heard".to_owned(),
            (true, None) => "SILENT".to_owned(),
            (true, Some(ms)) => format!("SILENT for {} s", ms / 1000),
        };
        lines.push(format!("{}: {heard}, {well} of {all} services healthy", host.name));
        for service in unwell {
            let open = service.incident.as_ref();
            let verdict =
                open.map_or_else(String::new, |open| format!(", {}: {}", open.verdict, open.summary));
            lines.push(format!("  {}: {}{verdict}", service.name, service.state));
        }
    }
    if lines.is_empty() {
        lines.push("no host has published anything".to_owned());
    }
    lines
}

/// The open incidents, each with its host and its service.
fn open(hosts: &[Host]) -> Vec<Value> {
    let mut found = Vec::new();
    for host in hosts {
        for service in &host.services {
            if let Some(open) = &service.incident {
                found.push(
                    serde_json::json!({ "host": host.name, "service": service.name, "incident": open }),
                );
            }
        }
    }
    found
}

fn incidents(hosts: &[Host]) -> Vec<String> {
    let mut lines = Vec::new();
    for host in hosts {
        for (service, open) in host.services.iter().filter_map(|it| Some((it, it.incident.as_ref()?))) {
            let (confidence, cause) = (open.confidence, open.cause.as_deref().unwrap_or("itself"));
            lines.push(format!(
                "{} on {}: {} ({}, confidence {confidence:.2}): {}",
                service.name, host.name, open.verdict, open.severity, open.summary
            ));
            lines.push(format!("  incident {}, cause: {cause}", open.id));
            if !open.held.is_empty() {
                lines.push(format!("  held because of it: {}", open.held.join(", ")));
            }
        }
    }
    if lines.is_empty() {
        lines.push("no incident is open".to_owned());
    }
    lines
}

async fn watch(fleet: &Fleet, host: &str, json: bool) -> Result<ExitCode, String> {
    view::watch(fleet, host, |host, line| {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return true };
        let action = event["event"]["action"].as_str().unwrap_or_default();
        if !(action.starts_with("incident.")
            || action.starts_with("service.")
            || action.starts_with("restart."))
        {
            return true;
        }
        let text = match json {
            true => event.to_string(),
            false => {
                let (time, message) = (&event["@timestamp"], &event["message"]);
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                format!("{} {host}: {action}: {}", text(time), text(message))
            }
        };
        print(&Page::of([text])) == ExitCode::SUCCESS
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}
