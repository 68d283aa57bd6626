//! The command line: flags, exit status, and which part of the daemon to call.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
