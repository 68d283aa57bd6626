//! The tables as they stand in the README, in `docs/verdicts.md` and in `docs/design/decisions.md`.

use std::fmt::Write;

use super::{
    AlertRule, DefaultAction, EndRule, Mend, Obstacle, Origin, SeverityRule, of, of_failure, of_obstacle,
};
use crate::fact::{ProbeFailure, Verdict};

/// What fails of services, in short.
fn verdicts_of_services() -> String {
    let mut table = "| verdict | evidence | default action |\n|---|---|---|\n".to_owned();
    // Those of hostprobe itself and of the host come after them.
    for verdict in Verdict::ALL.into_iter().take_while(|verdict| *verdict != Verdict::AgentImpaired) {
        let (name, (evidence, detail), action) = (verdict.as_str(), text(verdict), action(verdict));
        let _ = writeln!(table, "| `{name}` | {evidence} | {action}{detail} |");
    }
    table
}

fn action(verdict: Verdict) -> &'static str {
    match of(verdict).action {
        DefaultAction::Restart => "restart",
        DefaultAction::Hold => "hold",
        DefaultAction::Alert => "alert",
        DefaultAction::Nothing => "none",
    }
}

fn verdicts() -> String {
    let mut table = "| verdict | evidence | default action | severity | alert | ends when |\n".to_owned();
    table.push_str("|---|---|---|---|---|---|\n");
    for verdict in Verdict::ALL {
        let rule = of(verdict);
        let (evidence, detail) = text(verdict);
        let action = action(verdict);
        let severity = match rule.severity {
            SeverityRule::Info => "info",
            SeverityRule::Warning => "warning",
            SeverityRule::Critical => "critical",
            SeverityRule::OfService => "warning¹",
            SeverityRule::WhenExhausted => "warning; critical when it keeps services from working",
        };
        let alert = match rule.alert {
            AlertRule::Never => "never",
            AlertRule::AtOnce | AlertRule::WhenBudgetIsSpent => "at once",
            AlertRule::Delayed => "after 10 s",
            AlertRule::DelayedIfRestarted => "after 10 s²",
            AlertRule::AtOnceIfOwnFault => "at once; after 10 s if it was killed",
            AlertRule::WithHolders => "within 1 s, with the holders",
            AlertRule::WithCause => "with its cause",
        };
        let ends = match rule.ends {
            EndRule::Answer => "its probes answer",
            EndRule::Running => "it runs, and its probes answer",
            EndRule::Listening => "it listens, and its probes answer",
            EndRule::InTime => "its probes answer in time",
            EndRule::WithinLimits => "usage is 10 % below the limit, and the certificate renewed",
            EndRule::Accepts => "no listener is full for 10 s, and its probes answer",
            EndRule::LevelsOff => "it levels off, falls or is restarted",
            EndRule::NotStopped => "it is not stopped, and its probes answer",
            EndRule::WorkersLive => "its probes answer; after several deaths, none for 30 s",
            EndRule::Undisturbed => "nothing else has restarted it for 10 min, and its probes answer",
            EndRule::Able => "it can probe and restart again, for 10 s",
            EndRule::Room => "no restart waits, and half of the budget is free",
            EndRule::BelowLimit => "it is clearly within its limit",
            EndRule::Quiet => "none is reported for 10 min",
            EndRule::Heard => "each host of the fleet is heard again",
        };
        let name = verdict.as_str();
        let _ =
            writeln!(table, "| `{name}` | {evidence} | {action}{detail} | {severity} | {alert} | {ends} |");
    }
    table
        .push_str("\n¹ critical for a service with `critical = true`. ² at once where no restart is done.\n");
    table
}

/// What a restart can mend.
fn failures() -> String {
    let mut table = "| `probe.error` | verdict | other cause² | restart | because |\n".to_owned();
    table.push_str("|---|---|---|---|---|\n");
    for failure in ProbeFailure::ALL {
        let rule = of_failure(failure);
        let mut verdict = format!("`{}`", rule.alive.as_str());
        if rule.unknown != rule.alive {
            let _ = write!(verdict, "; `{}`¹", rule.unknown.as_str());
        }
        if rule.remote != rule.unknown {
            let _ = write!(verdict, "; `{}` on another host", rule.remote.as_str());
        }
        let origin = match rule.origin {
            Origin::Here => "",
            Origin::OrElsewhere => "yes",
        };
        let mend = match rule.mend {
            Mend::Restart => "yes³",
            Mend::Hold => "hold",
            Mend::Nothing => "none",
        };
        let (name, reason) = (failure.as_str(), rule.reason);
        let _ = writeln!(table, "| `{name}` | {verdict} | {origin} | {mend} | {reason} |");
    }
    table.push_str(
        "\n¹ if no main process is known. ² another service that does not answer this one can cause it. ³ only if the \
         probe has succeeded since the configuration was loaded, or other evidence proves the fault: the service \
         listened on the port, or does not accept its connections.\n",
    );
    table
}

/// What goes before the table of failures.
fn obstacles() -> String {
    let mut table = "| evidence | verdict | restart | because |\n|---|---|---|---|\n".to_owned();
    for obstacle in Obstacle::ALL {
        let rule = of_obstacle(obstacle);
        let (verdict, words, reason) = (rule.verdict.as_str(), rule.words, rule.reason);
        let _ = writeln!(table, "| {words} | `{verdict}` | hold | {reason} |");
    }
    table
}

/// The evidence for a verdict, and a remark on its default action.
fn text(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Crashed => ("it ended itself by a signal: a fault, an abort", ""),
        Verdict::Exited => ("it exited, with any code, though it should stay up", ""),
        Verdict::OomKilled => (
            "the OOM killer chose its main process, or systemd-oomd, earlyoom or the like ended it for its memory",
            "",
        ),
        Verdict::Killed => ("another process sent it a fatal signal", ""),
        Verdict::Stopped => {
            ("systemd was asked to stop or restart it", "; an event and a state, no incident")
        }
        Verdict::StartFailed => (
            "systemd could not start its unit, or it was not ready in time",
            "; a further start is systemd's or the operator's",
        ),
        Verdict::NotListening => ("its process lives, and its listener is gone", ""),
        Verdict::Hung => (
            "its process lives and does not answer: stopped, no thread runs, connections pile up, or silence alone",
            " after a snapshot",
        ),
        Verdict::Paused => (
            "its cgroup is frozen, a debugger or another tracer holds it, a person stopped it from a terminal, or a Redis \
             keeps its answers back",
            "",
        ),
        Verdict::Unhealthy => (
            "its probes fail, and nothing else says why",
            ", if it [can help](docs/design/decisions.md#what-a-restart-can-mend)",
        ),
        Verdict::WorkerDied => (
            "a worker crashed, was killed or OOM-killed, and its main process lives",
            "; `worker_died` can say restart",
        ),
        Verdict::Slow => ("its answers come later than `slow` allows", ""),
        Verdict::LimitExceeded => (
            "CPU, memory, threads, files or a store's memory is above the limit, or a certificate expires soon",
            "",
        ),
        Verdict::Exhausting => (
            "memory, descriptors, threads or connections reach their limit within `growth`",
            "; `exhausting` can say restart, in a window of maintenance",
        ),
        Verdict::BacklogFull => (
            "a listener has had no room for more connections for 10 s, and no probe fails",
            "; `backlog_full` can say restart",
        ),
        Verdict::Overloaded => {
            ("its threads wait for a CPU, the host is pressed (PSI), or many services time out together", "")
        }
        Verdict::DependencyDown => ("a service that it depends on has an incident", "; act on the cause"),
        Verdict::Unhealed => ("its dependency is healthy again, and it is not after its grace", ", once"),
        Verdict::PoolExhausted => (
            "a database refuses connections, or more are in use than `connections_percent`",
            "; `pool_exhausted` can restart the largest holder, never the database",
        ),
        Verdict::MemoryFull => {
            ("Redis is at `maxmemory` and refuses writes", "; `memory_full` can say restart")
        }
        Verdict::Network => {
            ("connections to another host time out, find no way, or are not acknowledged", "")
        }
        Verdict::CrashLoop => ("its restart budget is spent", "; the next try is after the long back-off"),
        Verdict::RestartedByOther => (
            "the same program, at no terminal, had it restarted four times within 10 min",
            "; hostprobe restarts it no more meanwhile",
        ),
        Verdict::AgentImpaired => (
            "hostprobe itself has no descriptors, memory, threads or ports left to probe or restart with",
            "; one incident of hostprobe, and the services keep their last known state",
        ),
        Verdict::HostSilent => (
            "other hosts of the [fleet](docs/fleet.md) are not heard any more",
            "; one incident, of the host that is to report them",
        ),
        Verdict::RestartStorm => (
            "more restarts are due than the budget of all services allows",
            "; one incident of hostprobe, until there is room again",
        ),
        Verdict::HostDiskFull => (
            "a file system is fuller than its limit, or will be full within `time_to_full` at its steady rate",
            "; services that write to it are not restarted while nothing is left",
        ),
        Verdict::HostInodes => ("the same of its inodes", "; as for `host_disk_full`"),
        Verdict::HostReadOnly => (
            "a file system that was writable is read-only, mostly after an error of its disk",
            "; services that write to it are not restarted",
        ),
        Verdict::HostMemory => (
            "nearly no memory is available for a minute, or all tasks wait for memory much of the time (PSI)",
            "",
        ),
        Verdict::HostPressure => (
            "tasks wait for a CPU, or all of them for a disk, for more of the time than the limit that you set (PSI)",
            "",
        ),
        Verdict::HostCpuSteal => {
            ("the hypervisor gives more CPU time to others than the limit, for five minutes", "")
        }
        Verdict::HostPids => (
            "processes and threads are near `pid_max` or `threads-max`",
            "; services that do not run are not started while none is left",
        ),
        Verdict::HostFiles => ("open files are near `file-max`", ""),
        Verdict::HostConntrack => (
            "tracked connections are near their limit, or the kernel drops packets for it",
            "; timeouts of probes are then `network`",
        ),
        Verdict::HostPorts => ("connections to one address use nearly all local ports", ""),
        Verdict::HostNeighbours => ("entries of the neighbour table are near `gc_thresh3`", ""),
        Verdict::HostClock => (
            "a clock that was kept right has a larger error than `clock_offset`, was set, or is not kept right any more",
            "",
        ),
        Verdict::HostRebooted => {
            ("the host started again, and neither hostprobe nor the host was shut down", "")
        }
        Verdict::HostHungTask => ("the kernel says that a task has not run for minutes", ""),
        Verdict::HostBlockErrors => ("the kernel says that a read or write of a disk failed", ""),
        Verdict::HostFsErrors => ("the kernel says that a file system is damaged", ""),
        Verdict::HostMemoryErrors => {
            ("the hardware reports an uncorrected memory error, or many corrected ones", "")
        }
        Verdict::HostThermal => (
            "heat slows a CPU down for more of the time than the limit, or a critical temperature is reached",
            "",
        ),
    }
}

/// The page has this table between its markers. `UPDATE_DOCS=1` writes it there.
fn compare(page: &str, name: &str, table: &str) {
    let path = format!("{}/../{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let (before, rest) = text.split_once(&start).unwrap();
    let (found, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{start}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(found, table, "{page} is out of date: run this test with UPDATE_DOCS=1");
    }
}

#[test]
fn the_readme_and_a_page_have_the_tables_of_verdicts() {
    compare("README.md", "verdicts", &verdicts_of_services());
    // Its links begin in another folder.
    compare("docs/verdicts.md", "verdicts", &verdicts().replace("](docs/", "]("));
}

#[test]
fn a_page_has_the_tables_of_what_a_restart_can_mend() {
    compare("docs/design/decisions.md", "failures", &failures());
    compare("docs/design/decisions.md", "obstacles", &obstacles());
}
