//! `hostprobe alert test`.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use hostprobe::{
    fact::AlertTestOutcome,
    serve::control::{Answer, Request},
};

use super::{
    ask,
    output::{Page, print},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a marked test alert, and its end, to each receiver, and print what they answer
    Test(TestArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit status: 0 if all took it, 1 if one did not or there is no such receiver.")]
pub struct TestArgs {
    /// The name of one [[alert]]; all without it
    receiver: Option<String>,
    #[command(flatten)]
    daemon: ask::Daemon,
}

pub fn run(command: Command) -> ExitCode {
    let Command::Test(TestArgs { receiver, daemon }) = command;
    let answer = match daemon.ask_aloud(&Request::AlertTest { receiver }, "the receivers of alerts") {
        Ok(answer) => answer,
        Err(failure) => return failure.end(),
    };
    let Answer::AlertTest(outcomes) = answer else { return ask::unexpected() };
    let printed = print(&Page::of(outcomes.iter().map(line)));
    let failed = outcomes.iter().any(|outcome| outcome.error.is_some());
    if failed { ExitCode::FAILURE } else { printed }
}

fn line(outcome: &AlertTestOutcome) -> String {
    match &outcome.error {
        None => format!("{}: took the test alert and its end", outcome.receiver),
        Some(why) => format!("{}: failed: {why}", outcome.receiver),
    }
}
