//! `hostprobe drill`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::{Args as ClapArgs, ValueEnum};
use hostprobe::{
    fact::{DrillFault, DrillOutcome, DrillReport},
    serve::control::{Answer, DrillPlan, Request},
};

use super::{
    ask,
    output::{BAD_CONFIG, Page, complain, print, print_json},
};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit status: 0 if the service has recovered, 1 if it has not or no drill was begun, 2 if it was not \
                  confirmed for lack of a terminal, 3 if this user may not."
)]
pub struct Args {
    /// The service's name
    service: String,
    /// The fault
    #[arg(long, value_enum, default_value_t = FaultArg::Kill)]
    fault: FaultArg,
    /// Begin without asking
    #[arg(long)]
    yes: bool,
    /// The reason, for the event stream
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: ask::Daemon,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FaultArg {
    /// SIGKILL to the main process
    Kill,
    /// Stop its processes, so that they answer nothing
    Hang,
    /// A real OOM kill, within its own memory cgroup
    Oom,
    /// Have its listeners refuse connections
    Refuse,
}

impl From<FaultArg> for DrillFault {
    fn from(fault: FaultArg) -> Self {
        match fault {
            FaultArg::Kill => Self::Kill,
            FaultArg::Hang => Self::Hang,
            FaultArg::Oom => Self::Oom,
            FaultArg::Refuse => Self::Refuse,
        }
    }
}

pub fn run(args: &Args) -> ExitCode {
    let request = |agreed| Request::Drill {
        service: args.service.clone(),
        fault: args.fault.into(),
        reason: args.reason.clone(),
        agreed,
    };
    let plan = match args.daemon.ask(&request(None)) {
        Err(failure) => return failure.end(),
        Ok(Answer::DrillPlan(plan)) => plan,
        Ok(_) => return ask::unexpected(),
    };
    plan_lines(&plan).iter().for_each(|line| complain(format_args!("{line}")));
    if !args.yes {
        if !io::stdin().is_terminal() {
            complain(format_args!(
                "hostprobe: nothing was done: there is no terminal to ask on, so a drill needs --yes"
            ));
            return ExitCode::from(BAD_CONFIG);
        }
        if !is_confirmed() {
            complain(format_args!("hostprobe: nothing was done"));
            return ExitCode::FAILURE;
        }
    }
    let what = format!("the end of the drill, at most {} s", plan.limit_s);
    match args.daemon.ask_aloud(&request(Some(plan.main)), what) {
        Err(failure) => {
            if failure.is_unanswered() {
                complain(format_args!(
                    "hostprobe: {}: the daemon went away in the middle of the drill; its next start undoes what is left of it",
                    args.service
                ));
            }
            failure.end()
        }
        Ok(Answer::Drill(report)) => {
            let printed = if args.json { print_json(&report) } else { print(&report_page(&report)) };
            if report.outcome == DrillOutcome::Recovered { printed } else { ExitCode::FAILURE }
        }
        Ok(_) => ask::unexpected(),
    }
}

fn plan_lines(plan: &DrillPlan) -> Vec<String> {
    let mut lines = vec![format!("{}: a drill ({}) will", plan.service, plan.fault.as_str())];
    lines.extend(plan.words.iter().map(|word| format!("  - {word}")));
    lines.push(format!(
        "It is a real outage: clients of the service fail until it is restarted, and the alert is sent. What is not over \
         within {} s is undone.",
        plan.limit_s
    ));
    lines
}

fn is_confirmed() -> bool {
    let _ = io::stderr().write_all(b"Begin? [y/N] ");
    let mut answer = String::new();
    // A line that is longer than this is no answer.
    let read = io::Read::take(io::stdin(), 16);
    let read = io::BufRead::read_line(&mut io::BufReader::new(read), &mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn report_page(report: &DrillReport) -> Page {
    let mut page = Page::default();
    let outcome = match report.outcome {
        DrillOutcome::Recovered => "recovered",
        DrillOutcome::NotRecovered => "NOT recovered in time",
        DrillOutcome::NotCaused => "the fault could not be caused",
        DrillOutcome::Unfinished => "the daemon ended before the drill was over",
    };
    page.line(format_args!("{}: drill {} ({}): {outcome}", report.service, report.id, report.fault.as_str()));
    page.line(format_args!("{:>12}  {:<9}  WHAT", "AFTER", "STEP"));
    for step in &report.steps {
        page.line(format_args!("{:>12}  {:<9}  {}", span(step.after_ms), step.step.as_str(), step.text));
    }
    let times = [
        ("detected", report.detected_ms),
        ("decided", report.decided_ms),
        ("restart requested", report.acted_ms),
        ("recovered", report.recovered_ms),
        ("alert accepted", report.alerted_ms),
    ];
    let times = times.into_iter().filter_map(|(step, ms)| Some(format!("{step} after {}", span(ms?))));
    let times: Vec<String> = times.collect();
    if !times.is_empty() {
        page.line(format_args!("{}", times.join(", ")));
    }
    if let Some(incident) = &report.incident {
        page.line(format_args!("more: hostprobe explain {incident}"));
    }
    for note in &report.notes {
        page.line(format_args!("note: {note}"));
    }
    page
}

/// Milliseconds for people.
fn span(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.1} ms") } else { format!("{:.2} s", ms / 1000.0) }
}
