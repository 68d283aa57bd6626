//! `hostprobe stop`, `start`, `restart`, `pause`, `resume` and `ack`.

use std::{process::ExitCode, time::Duration};

use clap::Args as ClapArgs;
use hostprobe::{
    config,
    fact::CommandKind,
    serve::control::{Answer, Operation, Request, Target},
};

use super::{
    ask,
    output::{Page, print},
};

#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit status: 0 if it is done, 1 if it failed or there is no such service.")]
pub struct ServiceArgs {
    /// The service's name
    service: String,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, ClapArgs)]
pub struct PauseArgs {
    #[command(flatten)]
    services: Services,
    /// How long, such as 30m; without it, until `hostprobe resume`
    #[arg(long = "for", value_name = "DURATION", value_parser = config::duration)]
    lasts: Option<Duration>,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, ClapArgs)]
pub struct ResumeArgs {
    #[command(flatten)]
    services: Services,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit status: 0 if it is done, 1 if there is no such open incident.")]
pub struct AckArgs {
    /// The incident's id, or its last number: 3 for 1a2b3c4d-i3
    incident: String,
    /// How long, such as 4h; without it, until the service recovers
    #[arg(long = "for", value_name = "DURATION", value_parser = config::duration)]
    lasts: Option<Duration>,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
struct Services {
    /// The service's name
    service: Option<String>,
    /// All services
    #[arg(long)]
    all: bool,
}

#[derive(Debug, ClapArgs)]
struct OrderArgs {
    /// The reason, for the event stream and `hostprobe status`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: ask::Daemon,
}

impl Services {
    fn target(self) -> Target {
        self.service.map_or(Target::All, Target::Service)
    }
}

/// Stops, starts or restarts a service.
pub fn service(operation: CommandKind, args: ServiceArgs) -> ExitCode {
    order(operation, Target::Service(args.service), None, args.order)
}

pub fn pause(args: PauseArgs) -> ExitCode {
    order(CommandKind::Pause, args.services.target(), args.lasts, args.order)
}

pub fn resume(args: ResumeArgs) -> ExitCode {
    order(CommandKind::Resume, args.services.target(), None, args.order)
}

pub fn ack(args: AckArgs) -> ExitCode {
    order(CommandKind::Ack, Target::Incident(args.incident), args.lasts, args.order)
}

fn order(operation: CommandKind, target: Target, lasts: Option<Duration>, args: OrderArgs) -> ExitCode {
    // A part of a second counts as one.
    let seconds = lasts.map(|lasts| lasts.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX));
    let what = match &target {
        Target::All => "all services".to_owned(),
        Target::Service(name) | Target::Incident(name) => name.clone(),
    };
    let what = format!("the outcome of {} {what}", operation.as_str());
    let operation = Operation { operation, target, seconds, reason: args.reason };
    let answer = match args.daemon.ask_aloud(&Request::Operate(operation), what) {
        Ok(answer) => answer,
        Err(failure) => return failure.end(),
    };
    let Answer::Done(done) = answer else { return ask::unexpected() };
    print(&Page::of([done.as_str()]))
}
