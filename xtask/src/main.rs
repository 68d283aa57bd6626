//! The project's own commands. `cargo xtask --help` lists them.

mod bench;
mod cargo;
mod check;
mod demo;
mod ebpf;
mod layers;
mod run;
mod soak;
mod test;
mod vm;

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
    /// Build the daemon in release mode and run it: `cargo xtask run -- --config FILE`
    Run(run::Arguments),
    /// Get the real servers the tests need, then run every test of the workspace
    ///
    /// As root on Debian, missing packages are installed and their services are not started. Elsewhere the tests that
    /// need them are skipped. The summary names each skipped test with the reason; with CI=true a skipped test is a
    /// failure.
    Test(test::Arguments),
    /// Break a small real stack in turn, and show what hostprobe makes of it
    ///
    /// A web application, Redis and PostgreSQL under one daemon, for less than a minute. Needs root, and the packages
    /// `cargo xtask test` installs. Exit status: 0 if every verdict and action came as expected, 1 if one did not,
    /// 3 if a part is missing.
    Demo,
    /// Keep a daemon under processes that come and go, and see whether its memory stays what it was
    ///
    /// Needs root. Prints memory, descriptors, threads, tables and eBPF maps with their bounds. Exit status: 0 if all
    /// stayed flat, 1 if not, 3 if a part is missing.
    Soak(soak::Arguments),
    /// Measure what hostprobe costs and how fast it is, beside what a user would run instead
    ///
    /// Needs root; as root on Debian, missing peers are installed and not started. Writes docs/numbers.md, its plots and
    /// numbers.json, and the table in the README. Exit status: 0 if all was measured, whether or not the targets were
    /// met, 1 if something could not be, 3 if a part is missing.
    Bench(bench::Arguments),
    /// Hold what the kernel side promises against real kernels, in virtual machines and on this host
    ///
    /// Debian's kernels 5.10, 6.1, 6.12 and 7.2, emulated, and this host's own (`host`). They are fetched by apt once and
    /// kept in `$XDG_CACHE_HOME/hostprobe`. If none is named all are run, and the table is written to docs/kernels.md.
    /// Exit status: 0 if all is as promised.
    Vm(vm::Arguments),
    /// Check format, lints, documentation, and the links and figures of the Markdown pages
    Check,
    /// Show the layers of the daemon's modules, imports that go upwards, and files that depend on each other in a circle
    ///
    /// Exit status: 0 if there is nothing to undo.
    Layers,
    /// Compile the eBPF programs and put object and digest where the daemon includes them from
    BuildEbpf,
    /// Rebuild the eBPF programs elsewhere and compare with the checked-in object
    ///
    /// Exit status: 0 the same, 1 different, 4 the toolchain cannot be had, so nothing was verified.
    VerifyEbpf,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Demo => demo::demo().map(|never| match never {}),
        Command::Soak(arguments) => soak::soak(&arguments).map(|never| match never {}),
        Command::Bench(arguments) => bench::bench(&arguments).map(|never| match never {}),
        Command::Vm(arguments) => vm::vm(&arguments),
        Command::Check => check::check().map(|()| ExitCode::SUCCESS),
        Command::Layers => layers::layers(),
        Command::BuildEbpf => ebpf::build().map(|()| ExitCode::SUCCESS),
        Command::VerifyEbpf => ebpf::verify(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
