//! The project's own commands. `cargo xtask --help` lists them.

mod ebpf;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One variant a command; each command is a module of its own.
#[derive(Subcommand)]
enum Command {
    /// Compile the eBPF programs and put object and digest where the daemon includes them from
    BuildEbpf,
    /// Rebuild the eBPF programs elsewhere and compare with the checked-in object
    ///
    /// Exit status: 0 the same, 1 different, 4 the toolchain cannot be had, so nothing was verified.
    VerifyEbpf,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::BuildEbpf => ebpf::build().map(|()| ExitCode::SUCCESS),
        Command::VerifyEbpf => ebpf::verify(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
