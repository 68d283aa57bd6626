//! Checks the eBPF programs in the running kernel. Each check causes an event and compares the record of the programs with
//! what the causing process knows.
//!
//! | command | does |
//! |---|---|
//! | `conformance checks [--exclusive]` | all checks; `--exclusive` adds those that need the machine to themselves |
//! | `conformance types` | this kernel's type information, reduced, with the offsets that the resolver finds in it |
//! | `conformance act ACTION…` | a process that a check needs, see [`action`] |
//!
//! Each check prints one line of JSON, see [`report`]. As process 1, the program is the whole user space of a virtual
//! machine, see [`init`]. `cargo xtask vm` runs it in several kernels and on the host.

mod action;
mod check;
mod checks;
mod fixture;
mod init;
mod report;
mod types;
mod workload;

use std::process::ExitCode;

use hostprobe::process::self_test;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["checks"] => checks::run(false),
        ["checks", "--exclusive"] => checks::run(true),
        ["types"] => types::print(),
        ["act", ref action @ ..] => action::run(action),
        // The doctor runs its own program as a child.
        [self_test::SUBCOMMAND] => return self_test::child(),
        _ => {
            eprintln!("usage: conformance checks [--exclusive] | types | act ACTION…");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}
