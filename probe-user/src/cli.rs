//! The commands a person gives, and what they answer.

mod ask;
mod doctor;
mod incidents;
mod replay;
mod run;
mod status;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use hostprobe::{
    config::Config,
    emit, host,
    process::self_test,
    sensor::ebpf::{self, Hook},
};

/// Where the configuration is looked for when none is named.
const DEFAULT_CONFIG: &str = "/etc/hostprobe/hostprobe.toml";

/// Exit status: bad usage or a bad configuration.
const BAD_CONFIG: u8 = 2;
/// Exit status: rights are missing, or the kernel cannot.
const NOT_POSSIBLE: u8 = 3;

/// Sees services die in the kernel, says why, brings them back, and reports it.
#[derive(Debug, Parser)]
#[command(name = "hostprobe", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: watch, restart what may be restarted, and write events
    Run(run::Args),
    /// Say whether a configuration is valid, and if not, where and why
    Check {
        /// The configuration file
        #[arg(long, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Say hook by hook what can be seen on this host, and what stands in for the rest
    ///
    /// Exit status: 0 full coverage, 1 degraded, 2 it cannot run.
    Doctor(doctor::Args),
    /// Show how a running daemon's services are
    Status(status::Args),
    /// List a running daemon's incidents: those that are open, and the latest that are over
    Incidents(incidents::ListArgs),
    /// Tell the story of one incident: evidence, verdict, decisions, outcome, timings
    Explain(incidents::ExplainArgs),
    /// Decide again on what a daemon recorded, and show what differs
    Replay(replay::Args),
    /// Print a configuration for what listens on this host
    Discover,
    /// Print the JSON Schema of the event stream
    Schema,
    /// Copy what is needed of the kernel's symbols, for a daemon that may not see them
    #[command(hide = true)]
    KernelSymbols {
        /// The copy
        file: PathBuf,
    },
    /// The child of the self-test at the daemon's start
    #[command(name = self_test::SUBCOMMAND, hide = true)]
    SelfTestChild,
}

/// Does what the command line asks for; the result is the exit status.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check { config } => check(&config),
        Command::Doctor(args) => doctor::run(args),
        Command::Status(args) => status::run(&args),
        Command::Incidents(args) => incidents::list(&args),
        Command::Explain(args) => incidents::explain(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Discover => discover(),
        Command::Schema => print(&format!("{:#}\n", emit::schema())),
        Command::KernelSymbols { file } => kernel_symbols(&file),
        Command::SelfTestChild => ExitCode::from(self_test::EXIT_CODE),
    }
}

fn check(file: &std::path::Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            print(&format!("{}: valid, {} services\n", file.display(), config.services.len()))
        }
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

fn kernel_symbols(file: &std::path::Path) -> ExitCode {
    let table = std::path::Path::new("/proc/kallsyms");
    match ebpf::stack::Symbols::read(table).write_to(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostprobe: the kernel's symbols cannot be copied to {}: {error}", file.display());
            ExitCode::from(NOT_POSSIBLE)
        }
    }
}

fn discover() -> ExitCode {
    let found = host::ProcReader::new("/")
        .and_then(|reader| hostprobe::discover::discover(&reader, std::process::id()));
    match found {
        Ok(found) => print(&hostprobe::discover::to_toml(&found)),
        Err(error) => {
            eprintln!("hostprobe: {error}");
            ExitCode::from(NOT_POSSIBLE)
        }
    }
}

/// The hooks that one argument names.
type Hooks = Vec<Hook>;

fn hooks(name: &str) -> Result<Hooks, String> {
    if name == "all" {
        return Ok(Hook::ALL.to_vec());
    }
    let names = || Hook::ALL.map(Hook::tracepoint).join(", ");
    Hook::at(name).map(|hook| vec![hook]).ok_or_else(|| format!("expected \"all\" or one of {}", names()))
}

/// Prints to standard output; a reader that has gone away, as `head` does, is no error.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("hostprobe: standard output: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => {
            eprintln!("hostprobe: the answer cannot be shown: {error}");
            ExitCode::FAILURE
        }
    }
}
