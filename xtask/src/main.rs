//! The project's own commands. `cargo xtask --help` lists them.

mod apt;
mod bench;
mod cargo;
mod chaos;
mod check;
mod demo;
mod dist;
mod ebpf;
mod false_restarts;
mod fuzz;
mod layers;
mod nightly;
mod properties;
mod quiet;
mod run;
mod soak;
mod survival;
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

/// One variant a command. Each command has a module.
#[derive(Subcommand)]
enum Command {
    /// Build the daemon and run it: `cargo xtask run -- --config FILE`
    ///
    /// It is optimised, and not linked as a whole, which saves minutes. `cargo build --release -p hostprobe` builds what the
    /// packages have.
    Run(run::Arguments),
    /// Install the servers that the tests need, then run every test of the workspace
    ///
    /// As root on Debian, missing packages are installed and their services are not started. Elsewhere the tests that
    /// need them are skipped. The summary names each skipped test with the reason; with CI=true a skipped test is a
    /// failure.
    Test(test::Arguments),
    /// Break a small real stack in several ways, and show what hostprobe does about each
    ///
    /// One daemon watches a web application, Redis and PostgreSQL for less than a minute. Needs root, and the packages
    /// that `cargo xtask test` installs. Exit status: 0 if every verdict and action is as expected, 1 if one is not,
    /// 3 if a part is missing.
    Demo,
    /// Run a daemon while processes come and go, and fail if its memory grows
    ///
    /// Needs root. Prints memory, descriptors, threads, tables and eBPF maps with their bounds. Exit status: 0 if
    /// none of them grew, 1 if one did, 3 if a part is missing.
    Soak(soak::Arguments),
    /// Kill a daemon at random moments under random faults, and fail if an alert is lost or a budget exceeded
    ///
    /// Needs root and Alertmanager. Writes the table in docs/survival.md. Exit status: 0 if nothing was lost, 1 if
    /// something was, 3 if a part is missing.
    Survival(survival::Arguments),
    /// Count the messages of hostprobe, Monit and Alertmanager about the same faults
    ///
    /// Needs root and the three peers' packages. Takes twelve minutes, and writes the tables in docs/quiet.md. Exit status: 0
    /// if all was counted, 1 if the page cannot be written, 3 if a part is missing.
    Quiet,
    /// Count how often hostprobe, Monit and rules like the kubelet's restart services that are well
    ///
    /// Needs root and Monit's package. Writes the table in docs/false-restarts.md. Exit status: 0 if hostprobe restarted none of
    /// them, and each that had a fault; 1 if not, 3 if a part is missing.
    FalseRestarts(false_restarts::Arguments),
    /// Do random faults to thirty services that need each other, and fail if hostprobe makes the wrong thing of one
    ///
    /// Needs root, and the packages that `cargo xtask test` installs. The daemon is killed and upgraded meanwhile, disks are
    /// full, sockets are flooded, receivers fail. Prints the plan of each round, a summary, and the seed and the round of a
    /// failure. Exit status: 0 if all was right, 1 if something was not, 3 if a part is missing.
    Chaos(chaos::Arguments),
    /// Show the engine random observations, and fail if a restart is not justified, an incident does not end, or a replay
    /// decides otherwise
    ///
    /// `cargo xtask test` runs the same test for some seconds. It prints the shortest sequence that fails.
    Properties(properties::Arguments),
    /// Have inputs made up for whatever reads foreign bytes, and fail if one of them crashes it
    ///
    /// Installs a nightly compiler and cargo-fuzz. As many fuzzers run at once as there are CPUs. Exit status: 0 if none
    /// found anything, 1 if one did, 4 not run, because a tool is missing.
    Fuzz(fuzz::Arguments),
    /// Measure what hostprobe costs and how fast it is, beside what a user would run instead
    ///
    /// Needs root. On Debian, installs missing peers and does not start them. Writes docs/numbers.md, its plots and
    /// numbers.json, and the table in the README. Exit status: 0 if everything was measured, also if a target was
    /// missed; 1 if a measurement failed, 3 if a part is missing.
    Bench(bench::Arguments),
    /// Check the kernel side in real kernels, in virtual machines and on this host
    ///
    /// The kernels are Debian's 5.10, 6.1, 6.12 and 7.2, emulated, and this host's own (`host`). apt fetches them once into
    /// `$XDG_CACHE_HOME/hostprobe`. Without a name, the checks run in all of them, and the table is written to
    /// docs/kernels.md. Exit status: 0 if every check passes.
    Vm(vm::Arguments),
    /// Build what a release consists of: packages, static programs, a container image, checksums and lists of contents
    ///
    /// Takes Debian's packages of musl, of cross compilers and of rpm, and installs them as root. Needs no root otherwise, and
    /// no container engine.
    Dist(dist::Arguments),
    /// Check format, lints, documentation, the layers of the modules, and the links and figures of the Markdown pages
    Check,
    /// Show the layers of the daemon's modules, imports that go upwards, and files that depend on each other in a circle
    ///
    /// Exit status: 0 if there is nothing to undo.
    Layers,
    /// Compile the eBPF programs and write the object that the daemon includes, and its digest
    BuildEbpf,
    /// Compile the eBPF programs again and compare the bytes with the checked-in object
    ///
    /// Exit status: 0 the same, 1 different, 4 not verified, because the toolchain is missing.
    VerifyEbpf,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Demo => demo::demo().map(|never| match never {}),
        Command::Soak(arguments) => soak::soak(&arguments).map(|never| match never {}),
        Command::Survival(arguments) => survival::survival(&arguments).map(|never| match never {}),
        Command::Quiet => quiet::quiet().map(|never| match never {}),
        Command::FalseRestarts(arguments) => {
            false_restarts::false_restarts(&arguments).map(|never| match never {})
        }
        Command::Chaos(arguments) => chaos::chaos(&arguments).map(|never| match never {}),
        Command::Properties(arguments) => properties::properties(&arguments),
        Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments).map(|never| match never {}),
        Command::Vm(arguments) => vm::vm(&arguments),
        Command::Dist(arguments) => dist::dist(&arguments),
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
