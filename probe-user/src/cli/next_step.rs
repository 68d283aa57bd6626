//! The one thing to do next on the way from an installed program to a healed fault: the last line of `hostprobe doctor`.

use std::path::Path;

use hostprobe::{
    config::Config,
    doctor::{Report, State},
    serve::{
        control::{Answer, Request},
        status::Status,
    },
};

use super::{argument::DEFAULT_CONFIG, ask};

/// Where packages and operators put the unit.
const UNITS: [&str; 2] =
    ["/usr/lib/systemd/system/hostprobe.service", "/etc/systemd/system/hostprobe.service"];

/// Where the unit has its options, in the packages of the two families.
const OPTIONS: [&str; 2] = ["/etc/default/hostprobe", "/etc/sysconfig/hostprobe"];

/// What decides about it.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) report: &'a Report,
    pub(super) is_root: bool,
    pub(super) configuration: Configuration<'a>,
    /// None if no daemon answers.
    pub(super) status: Option<&'a Status>,
    pub(super) has_unit: bool,
    /// The file of the unit's options, if there is one.
    pub(super) options: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Configuration<'a> {
    Missing,
    Refused,
    Valid(&'a Config),
}

/// Finds out how far this host is, and says what to do next.
pub(super) fn find(report: &Report, configuration: Configuration<'_>) -> String {
    let answer = ask::Daemon::usual().ask(&Request::Status).ok();
    let status = match &answer {
        Some(Answer::Status(status)) => Some(&**status),
        _ => None,
    };
    let there = |path: &&str| Path::new(path).exists();
    let situation = Situation {
        report,
        is_root: rustix::process::geteuid().is_root(),
        configuration,
        status,
        has_unit: UNITS.iter().any(there),
        options: OPTIONS.into_iter().find(there),
    };
    situation.next()
}

impl Situation<'_> {
    fn next(&self) -> String {
        let rights = self.report.host_checks.iter().find(|check| check.name == "rights");
        if !self.is_root && rights.is_some_and(|check| check.state == State::Degraded) {
            return "run `hostprobe doctor` as root: this user sees less of the host than the daemon"
                .to_owned();
        }
        let start = if self.has_unit { "systemctl enable --now hostprobe" } else { "hostprobe run" };
        let config = match self.configuration {
            Configuration::Refused => {
                return format!("`hostprobe check` says what is wrong with {DEFAULT_CONFIG}");
            }
            Configuration::Missing if self.status.is_none() => {
                return format!(
                    "`{start}` starts the daemon: it watches what listens here, and restarts nothing"
                );
            }
            Configuration::Missing => {
                return format!(
                    "`hostprobe discover --write {DEFAULT_CONFIG}` writes a configuration for what runs here"
                );
            }
            Configuration::Valid(config) => config,
        };
        let Some(status) = self.status else { return format!("`{start}` starts the daemon") };
        let restart = if self.has_unit { "systemctl restart hostprobe" } else { "restart hostprobe" };
        if config.services.is_empty() {
            return "add a [[service]] to the configuration; `hostprobe discover` prints those that run here"
                .to_owned();
        }
        let Some(recovered) = config.services.iter().find(|service| service.restart.enabled) else {
            return format!(
                "choose what may be restarted: `enabled = true` in its [service.restart], then `{restart}`"
            );
        };
        if status.observes {
            return match self.options {
                Some(options) => format!(
                    "remove --observe from {options}, then `{restart}`: it restarts nothing until then"
                ),
                None => "start hostprobe without --observe: it restarts nothing until then".to_owned(),
            };
        }
        if config.alerts.is_empty() {
            return "add an [[alert]] to the configuration, and test it by `hostprobe alert test`".to_owned();
        }
        if let Some(lost) =
            self.report.receivers.iter().find(|receiver| receiver.check.state == State::Degraded)
        {
            return format!("correct the receiver {} of alerts: it cannot be reached", lost.check.name);
        }
        if self.report.coverage == State::Degraded {
            return "see to what is marked LESS above, as far as this host needs it".to_owned();
        }
        format!("nothing is missing; `hostprobe drill {}` shows a fault and its recovery", recovered.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostprobe::{doctor::Check, serve::status::Status};

    fn report(rights: State) -> Report {
        let check = Check {
            name: "rights".to_owned(),
            state: rights,
            detail: String::new(),
            fallback: None,
            remedy: None,
        };
        Report {
            version: String::new(),
            host: String::new(),
            kernel: String::new(),
            coverage: rights,
            hooks: Vec::new(),
            host_checks: vec![check],
            receivers: Vec::new(),
        }
    }

    fn status(observes: bool) -> Status {
        let answer = serde_json::json!({
            "ready": true, "observes": observes, "timestamp": "2026-01-01T00:00:00Z",
            "host": { "name": "h", "boot": { "id": "b" } },
            "agent": { "name": "hostprobe", "version": "1", "ephemeral_id": "e" },
            "services": [], "coverage": [],
            "counters": { "events": 0, "events_lost": 0, "incidents": 0, "incidents_open": 0, "restarts": 0,
                "alerts_waiting": 0 },
        });
        serde_json::from_value(answer).unwrap()
    }

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hostprobe.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file).unwrap()
    }

    #[test]
    fn each_step_leads_to_the_next() {
        let (full, lacking) = (report(State::Full), report(State::Degraded));
        let service = "[[service]]\nname = \"api\"\nunit = \"api.service\"\n";
        let watched = config(service);
        let healed = config(&format!("{service}[service.restart]\nenabled = true\n"));
        let alerts = "[[alert]]\nwebhook = \"http://127.0.0.1:1/\"\n";
        let whole = config(&format!("{alerts}{service}[service.restart]\nenabled = true\n"));
        let empty = config("");
        let (observing, acting) = (status(true), status(false));
        let situation = |report, configuration, status| Situation {
            report,
            is_root: report.coverage == State::Full,
            configuration,
            status,
            has_unit: true,
            options: Some("/etc/default/hostprobe"),
        };
        let valid = Configuration::Valid;
        for (found, words) in [
            (situation(&lacking, Configuration::Missing, None), "as root"),
            (situation(&full, Configuration::Missing, None), "systemctl enable --now hostprobe"),
            (situation(&full, Configuration::Missing, Some(&observing)), "discover --write /etc/hostprobe"),
            (situation(&full, Configuration::Refused, Some(&observing)), "hostprobe check"),
            (situation(&full, valid(&watched), None), "systemctl enable --now hostprobe"),
            (situation(&full, valid(&empty), Some(&observing)), "add a [[service]]"),
            (situation(&full, valid(&watched), Some(&observing)), "enabled = true"),
            (
                situation(&full, valid(&healed), Some(&observing)),
                "remove --observe from /etc/default/hostprobe",
            ),
            (situation(&full, valid(&healed), Some(&acting)), "add an [[alert]]"),
            (situation(&full, valid(&whole), Some(&acting)), "hostprobe drill api"),
        ] {
            let said = found.next();
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
