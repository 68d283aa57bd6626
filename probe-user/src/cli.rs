//! The commands and their arguments.

mod alert;
mod argument;
mod ask;
mod beat;
mod check;
mod discover;
mod doctor;
mod drill;
mod events;
mod fleet;
mod incidents;
mod manual;
mod next_step;
mod operate;
mod output;
mod reload;
mod replay;
mod report;
mod run;
mod status;
mod waiting;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use hostprobe::{
    config, emit, fact::CommandKind, inspect::crash::names, process::self_test, sensor::ebpf, serve,
};

use self::output::{NOT_POSSIBLE, Page, complain, print, print_json};

/// Detects failures of services with eBPF and probes, finds the cause, restarts what can be mended, and alerts.
#[derive(Debug, Parser)]
#[command(name = "hostprobe", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: watch, restart services, and write events
    Run(run::Args),
    /// Check a configuration: whether it is valid, and if not, where and why
    Check(check::Args),
    /// Check hook by hook what the daemon can observe on this host, and which fallbacks replace the rest
    ///
    /// Exit status: 0 full coverage, 1 degraded, 2 it cannot run.
    Doctor(doctor::Args),
    /// Show the state of a running daemon's services
    Status(status::Args),
    /// Show the events of the stream, filtered
    Events(events::Args),
    /// List a running daemon's incidents: the open ones, and the latest resolved ones
    Incidents(incidents::ListArgs),
    /// Explain one incident: evidence, verdict, decisions, outcome, timings
    Explain(incidents::ExplainArgs),
    /// Report how available services were: downtime, incidents, times to detect and to recover, restarts
    Report(report::Args),
    /// Stop a service, until it is started; also over restarts of hostprobe
    Stop(operate::ServiceArgs),
    /// Start a service
    Start(operate::ServiceArgs),
    /// Restart a service. That is no incident and spends no budget
    Restart(operate::ServiceArgs),
    /// Hold restarts and alerts of a service; probes and incidents go on, and what is still wrong at the end is acted on
    Pause(operate::PauseArgs),
    /// End a pause early
    Resume(operate::ResumeArgs),
    /// Acknowledge an incident: it alerts no more
    Ack(operate::AckArgs),
    /// Report in as a job that hostprobe waits for (a `heartbeat` probe)
    Beat(beat::Args),
    /// Send test messages to the receivers of alerts
    #[command(subcommand)]
    Alert(alert::Command),
    /// Show all hosts that publish to each other over NATS
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Cause a real fault of a service on purpose, and measure detection, recovery and alert
    Drill(drill::Args),
    /// Have a running daemon read its configuration again; fails if it refuses the file or must be restarted
    Reload(reload::Args),
    /// Repeat a daemon's recorded decisions, and show the differences
    Replay(replay::Args),
    /// Print or write a configuration for the servers that listen on this host
    Discover(discover::Args),
    /// Print the JSON Schema of the event stream or of the configuration, or the description of what is served over HTTP
    Schema {
        /// What it describes
        of: SchemaOf,
    },
    /// Print the completions of the commands for a shell, such as bash: `source <(hostprobe completions bash)`
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages of all commands into a folder
    #[command(hide = true)]
    ManPages {
        /// The folder
        folder: PathBuf,
    },
    /// Copy the needed part of the kernel's symbols, for a daemon without the right to read them
    #[command(hide = true)]
    KernelSymbols {
        /// The copy
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SchemaOf {
    /// The event stream
    Events,
    /// The configuration, for an editor
    Config,
    /// What is served over HTTP, in OpenAPI
    Http,
}

/// Runs a command and returns its exit status.
pub fn run() -> ExitCode {
    // The daemon waits for these two, and it takes milliseconds to describe all commands.
    match std::env::args_os().nth(1) {
        Some(own) if own == self_test::SUBCOMMAND => return self_test::child(),
        Some(own) if own == names::SUBCOMMAND => return names::child(),
        _ => {}
    }
    match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(&args),
        Command::Doctor(args) => doctor::run(args),
        Command::Status(args) => status::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Incidents(args) => incidents::list(&args),
        Command::Explain(args) => incidents::explain(&args),
        Command::Report(args) => report::run(&args),
        Command::Stop(args) => operate::service(CommandKind::Stop, args),
        Command::Start(args) => operate::service(CommandKind::Start, args),
        Command::Restart(args) => operate::service(CommandKind::Restart, args),
        Command::Pause(args) => operate::pause(args),
        Command::Resume(args) => operate::resume(args),
        Command::Ack(args) => operate::ack(args),
        Command::Beat(args) => beat::run(&args),
        Command::Alert(command) => alert::run(command),
        Command::Fleet(command) => fleet::run(command),
        Command::Drill(args) => drill::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Discover(args) => discover::run(&args),
        Command::Schema { of: SchemaOf::Events } => print_json(&emit::schema()),
        Command::Schema { of: SchemaOf::Config } => print_json(&config::schema()),
        Command::Schema { of: SchemaOf::Http } => print_json(&serve::openapi()),
        Command::Completions { shell } => completions(shell),
        Command::ManPages { folder } => manual::write(&shown(), &folder),
        Command::KernelSymbols { file } => kernel_symbols(&file),
    }
}

/// The commands for people.
fn shown() -> clap::Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let about = all.get_about().cloned().unwrap_or_default();
    clap::Command::new("hostprobe").version(env!("CARGO_PKG_VERSION")).about(about).subcommands(shown)
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "hostprobe", &mut script);
    print(&Page::of(String::from_utf8_lossy(&script).lines()))
}

fn kernel_symbols(file: &std::path::Path) -> ExitCode {
    let table = std::path::Path::new("/proc/kallsyms");
    let symbols =
        ebpf::stack::Table::open(table).map_err(std::io::Error::other).and_then(|table| table.read());
    match symbols.and_then(|symbols| symbols.write_to(file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!(
                "hostprobe: {}: cannot copy the kernel's symbols: {error}",
                file.display()
            ));
            ExitCode::from(NOT_POSSIBLE)
        }
    }
}
