//! `hostprobe beat`.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use hostprobe::serve::control::{Answer, Request};

use super::ask;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A job runs it at its end. Users who may not use the control socket send POST /beat/NAME to the address of [http]."
)]
pub struct Args {
    /// The name of the heartbeat
    name: String,
    #[command(flatten)]
    daemon: ask::Daemon,
}

/// Reports in, and says nothing: a timer's mail is for failures.
pub fn run(args: &Args) -> ExitCode {
    let answer = match args.daemon.ask(&Request::Beat { heartbeat: args.name.clone() }) {
        Ok(answer) => answer,
        Err(failure) => return failure.end(),
    };
    let Answer::Done(_) = answer else { return ask::unexpected() };
    ExitCode::SUCCESS
}
