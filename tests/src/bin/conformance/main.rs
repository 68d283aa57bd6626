//! What the kernel side promises, held against the kernel that runs: each promise is caused for real, and what the
//! loaded programs tell of it is compared with what the causing processes know for themselves.
//!
//! | command | does |
//! |---|---|
//! | `conformance checks [--alone]` | all checks; `--alone` also those that a host shared with others is spared |
//! | `conformance types` | this kernel's type information, reduced, with what the resolver makes of it |
//! | `conformance do DEED…` | one process that a check needs, see [`deed`] |
//!
//! Each check is one line of JSON on standard output, see [`report`]. Started as process 1 it is the whole user space of
//! a virtual machine, see [`init`]: `cargo xtask vm` runs it in several kernels and on the host.

mod bench;
mod checks;
mod deed;
mod init;
mod process;
mod report;
mod types;

use std::process::ExitCode;

use hostprobe::process::self_test;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["checks"] => checks::run(false),
        ["checks", "--alone"] => checks::run(true),
        ["types"] => types::print(),
        ["do", ref deed @ ..] => deed::act(deed),
        // The doctor's own child.
        [self_test::SUBCOMMAND] => return ExitCode::from(self_test::EXIT_CODE),
        _ => {
            eprintln!("usage: conformance checks [--alone] | types | do DEED…");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}
