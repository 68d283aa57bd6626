//! `hostprobe reload`.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use hostprobe::{
    fact::Reload,
    serve::control::{Answer, Request},
};

use super::{
    ask,
    output::{BAD_CONFIG, Page, complain, print},
};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit status: 0 if the daemon does what the file says, 2 if the file is refused and the old configuration stays."
)]
pub struct Args {
    /// The reason, for the event stream
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: ask::Daemon,
}

/// Has the daemon read its configuration again, and reports the outcome.
pub fn run(args: &Args) -> ExitCode {
    match args.daemon.ask_aloud(&Request::Reload { reason: args.reason.clone() }, "the new configuration") {
        Err(failure) => failure.end(),
        Ok(Answer::Reload(Reload::Unchanged)) => print(&Page::of(["the configuration has not changed"])),
        Ok(Answer::Reload(Reload::Applied(changes))) => print(&Page::of(changes.sentences())),
        Ok(Answer::Reload(Reload::Refused(why))) => {
            why.lines().for_each(|line| complain(format_args!("{line}")));
            complain(format_args!("hostprobe: the new configuration is refused, the old one stays"));
            ExitCode::from(BAD_CONFIG)
        }
        Ok(
            Answer::Status(_)
            | Answer::Incidents(_)
            | Answer::Explanation(_)
            | Answer::DrillPlan(_)
            | Answer::Drill(_)
            | Answer::AlertTest(_)
            | Answer::Report(_)
            | Answer::Done(_)
            | Answer::Error(_),
        ) => ask::unexpected(),
    }
}
