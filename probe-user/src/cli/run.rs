//! `hostprobe run`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args as ClapArgs;
use hostprobe::{
    config::{Config, EventOutput, Identity, Service},
    daemon::{RunError, RunOptions},
    descriptors,
    discover::Found,
    fact::ServiceId,
    host,
    process::{deadline, log, memory, notify::Notifier},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use super::{
    argument::{DEFAULT_CONFIG, Hooks, hooks},
    output::{BAD_CONFIG, NOT_POSSIBLE, complain, complain_all},
};

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The configuration file [default: /etc/hostprobe/hostprobe.toml, else the servers that listen on this host]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where to write events instead of the configuration's events.output: "-", a file, unix:/path, tcp:host:port or
    /// journald
    #[arg(long, value_name = "DEST")]
    events: Option<String>,
    /// Restart nothing, in spite of the configuration
    #[arg(long)]
    observe: bool,
    /// The level of the daemon's own log on standard error: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: Level,
    /// Run without a hook, named by its tracepoint, as on a kernel that lacks it; "all" for every one. May be repeated
    #[arg(long, value_name = "HOOK", value_parser = hooks)]
    without_hook: Vec<Hooks>,
    /// Log the eBPF programs' debug lines too, at level debug; costly
    #[arg(long)]
    kernel_log: bool,
}

/// The runtime's own threads resolve names. A resolver that does not answer holds one each.
const RESOLVERS_MAX: usize = 32;

/// The runtime panics if it needs its first thread and cannot have it. So the first one, of the start, stays.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub fn run(args: Args) -> ExitCode {
    let level = if args.kernel_log { args.log.max(Level::DEBUG) } else { args.log };
    memory::share_heap();
    log::init(level);
    // SAFETY: the process has no other thread yet.
    let notifier = unsafe { Notifier::take_from_environment() };
    let notifier = notifier.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Notifier::default()
    });
    let default = || Some(PathBuf::from(DEFAULT_CONFIG)).filter(|file| file.exists());
    let config_file = args.config.or_else(default);
    let loaded = match config_file.as_deref().map(Config::load).transpose() {
        Ok(loaded) => loaded,
        Err(errors) => {
            complain_all(&errors);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let mut config = loaded.unwrap_or_else(discovered);
    let events = match args.events.as_deref() {
        None => None,
        Some(given) => match given.parse() {
            Ok(output) => Some(vec![output]),
            Err(expected) if given.starts_with("unix:") || given.starts_with("tcp:") => {
                complain(format_args!("hostprobe: --events {given}: expected {expected}"));
                return ExitCode::from(BAD_CONFIG);
            }
            // On a command line, a file may be named from the present folder.
            Err(_) => Some(vec![EventOutput::File(PathBuf::from(given))]),
        },
    };
    if let Some(events) = &events {
        config.events.clone_from(events);
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    descriptors::prepare();
    let options = RunOptions {
        config_file,
        events,
        observe: args.observe,
        kernel_log: args.kernel_log,
        without: args.without_hook.concat(),
        notifier,
    };
    let deadline = deadline::after(config.longest_stop());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(RESOLVERS_MAX)
        .thread_keep_alive(FOR_EVER)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("hostprobe: runtime: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        deadline::install(deadline)?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM".to_owned(),
                _ = interrupt.recv() => "SIGINT".to_owned(),
            }
        };
        std::io::Result::Ok(hostprobe::run(config, options, shutdown).await)
    });
    // Not even a thread of the runtime that hangs holds up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error @ RunError::ForeignProc(_))) => {
            complain(format_args!("hostprobe: {error}"));
            ExitCode::from(NOT_POSSIBLE)
        }
        Ok(Err(error)) => {
            complain(format_args!("hostprobe: {error}"));
            if matches!(error, RunError::Host(_)) { ExitCode::from(NOT_POSSIBLE) } else { ExitCode::FAILURE }
        }
        Err(error) => {
            complain(format_args!("hostprobe: signals: cannot be caught: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A configuration that watches the servers on this host and restarts nothing, with a few lines for the operator.
fn discovered() -> Config {
    let found = host::ProcReader::new("/")
        .and_then(|reader| hostprobe::discover::discover(&reader, std::process::id()));
    let mut found = found.map(|found| found.services).unwrap_or_else(|error| {
        tracing::error!(%error, "listeners of this host: cannot be read");
        Vec::new()
    });
    // On a host under systemd, the unit's state tells a requested stop from an exit.
    let systemd = Path::new("/run/systemd/system").is_dir();
    for found in found.iter_mut().filter(|_| systemd) {
        if let Some(unit) = &found.unit {
            found.service.identity = Identity::Unit(unit.clone());
        }
    }
    complain(format_args!(
        "hostprobe: {DEFAULT_CONFIG}: no such file; watching what listens here, restarting nothing"
    ));
    for found in &found {
        let ports: Vec<String> = found.ports.iter().map(u16::to_string).collect();
        let probe = found.service.probes.first().map_or("kernel evidence only", |probe| probe.kind.as_str());
        complain(format_args!("  {:<24} port {:<12} {probe}", found.service.name, ports.join(",")));
    }
    complain(format_args!(
        "hostprobe: next: `hostprobe status` shows them; to have services restarted, write a configuration: \
         hostprobe discover --write {DEFAULT_CONFIG}, edit it, hostprobe check, and start again"
    ));
    let number = |(id, found): (ServiceId, Found)| Service { id, ..found.service };
    let services = (0..).map(ServiceId).zip(found).map(number).collect();
    Config { services, ..Config::default() }
}
