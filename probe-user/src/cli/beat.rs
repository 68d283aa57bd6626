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
    match args.daemon.ask(&Request::Beat { heartbeat: args.name.clone() }) {
        Err(failure) => failure.end(),
        Ok(Answer::Done(_)) => ExitCode::SUCCESS,
        Ok(
            Answer::Status(_)
            | Answer::Incidents(_)
            | Answer::Explanation(_)
            | Answer::Report(_)
            | Answer::Reload(_)
            | Answer::DrillPlan(_)
            | Answer::Drill(_)
            | Answer::AlertTest(_)
            | Answer::Error(_),
        ) => ask::unexpected(),
    }
}
