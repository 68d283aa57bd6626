//! `hostprobe doctor`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use hostprobe::{
    config::{Config, ConfigErrors},
    doctor::{State, examine},
};

use super::{
    argument::{DEFAULT_CONFIG, Hooks, hooks},
    next_step::{self, Configuration},
    output::{BAD_CONFIG, Page, complain, complain_all, print, print_json},
    waiting::Waiting,
};

/// Exit status: the daemon can run, with reduced coverage.
const DEGRADED: u8 = 1;
/// Exit status: the daemon cannot run.
const CANNOT: u8 = 2;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// The configuration file, for what its probes need [default: /etc/hostprobe/hostprobe.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run without a hook, named by its tracepoint, as on a kernel that lacks it; "all" for every one. May be repeated
    #[arg(long, value_name = "HOOK", value_parser = hooks)]
    without_hook: Vec<Hooks>,
}

/// Reports what the daemon can observe and do on this host.
pub fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("hostprobe: cannot run: the runtime does not start: {error}"));
            return ExitCode::from(CANNOT);
        }
    };
    let loaded = match load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(errors) => {
            complain_all(&errors);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let config = loaded.as_ref().and_then(|loaded| loaded.as_ref().ok());
    // The self-test and the receivers of alerts have some seconds each.
    let waiting = Waiting::begin("the self-test and the receivers of alerts");
    let examined = runtime.block_on(examine(args.without_hook.concat(), config));
    drop(waiting);
    let report = match examined {
        Ok(report) => report,
        Err(error) => {
            complain(format_args!("hostprobe: cannot run: {error}"));
            return ExitCode::from(CANNOT);
        }
    };
    let printed = if args.json {
        print_json(&report)
    } else {
        let configuration = match &loaded {
            None => Configuration::Missing,
            Some(Err(_)) => Configuration::Refused,
            Some(Ok(config)) => Configuration::Valid(config),
        };
        let mut lines = report.lines();
        lines.extend([String::new(), format!("next: {}", next_step::find(&report, configuration))]);
        print(&Page::of(lines))
    };
    match report.coverage {
        State::Full | State::Absent => printed,
        State::Degraded => ExitCode::from(DEGRADED),
    }
}

/// A configuration that was read; None if there is no file.
type Loaded = Option<Result<Config, ConfigErrors>>;

/// The configuration. The host is examined all the same where the default one is missing or is refused.
fn load(file: Option<&Path>) -> Result<Loaded, ConfigErrors> {
    match file {
        Some(file) => Config::load(file).map(|config| Some(Ok(config))),
        None => {
            let file = Path::new(DEFAULT_CONFIG);
            Ok(file.exists().then(|| Config::load(file)))
        }
    }
}
