//! `hostprobe doctor`.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args as ClapArgs;
use hostprobe::doctor::{Check, Report, State, examine};

use super::{Hooks, hooks, print, print_json};

/// Exit status: it can run, and sees less than it could.
const DEGRADED: u8 = 1;
/// Exit status: it cannot run.
const CANNOT: u8 = 2;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Do without a hook, named by its tracepoint, as on a kernel that lacks it; "all" for every one. May be repeated
    #[arg(long, value_name = "HOOK", value_parser = hooks)]
    without_hook: Vec<Hooks>,
}

/// Says what can be seen and done on this host.
pub fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hostprobe: it cannot run: the runtime cannot be started: {error}");
            return ExitCode::from(CANNOT);
        }
    };
    let report = match runtime.block_on(examine(args.without_hook.concat())) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("hostprobe: it cannot run: {error}");
            return ExitCode::from(CANNOT);
        }
    };
    let printed = if args.json { print_json(&report) } else { print(&in_words(&report)) };
    match report.coverage {
        State::Full | State::Absent => printed,
        State::Degraded => ExitCode::from(DEGRADED),
    }
}

fn in_words(report: &Report) -> String {
    let attached = report.hooks.iter().filter(|hook| hook.state == State::Full).count();
    let coverage = match report.coverage {
        State::Full | State::Absent => "full coverage",
        State::Degraded => "degraded",
    };
    let mut text = format!(
        "hostprobe {} on {}, Linux {}: {coverage}, {attached} of {} hooks\n",
        report.version,
        report.host,
        report.kernel,
        report.hooks.len()
    );
    for (title, checks) in [("hooks", &report.hooks), ("host", &report.host_checks)] {
        let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{title}");
        for check in checks {
            let _ = write(check, width, &mut text);
        }
    }
    text
}

fn write(check: &Check, width: usize, text: &mut String) -> std::fmt::Result {
    let mark = match check.state {
        State::Full => "ok",
        State::Degraded => "LESS",
        State::Absent => "-",
    };
    writeln!(text, "  {mark:<4}  {:<width$}  {}", check.name, check.detail)?;
    for (what, words) in [("instead", &check.stand_in), ("to do", &check.remedy)] {
        if let Some(words) = words {
            writeln!(text, "        {:<width$}  {what}: {words}", "")?;
        }
    }
    Ok(())
}
