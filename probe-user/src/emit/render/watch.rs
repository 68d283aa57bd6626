//! Events about the daemon itself, probes, units, states and losses.

use super::{Renderer, counted, millis, room, rounded};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::{
        AgentReady, AgentStart, Holder, HookCoverage, Place, ProbeChange, ProbeOutcome, ProbeReport, Reload,
        ServerReport, ServerUsage, ServiceId, ServiceState, Share, UnitState,
    },
};

/// The most services of a kind that a reload names, so that they fit a line.
const RELOADED: usize = 64;

impl Renderer<'_> {
    pub(super) fn agent_start(&self, record: &mut Record, start: &AgentStart) {
        let file = start.config_file.as_deref();
        record.event.outcome = Outcome::Success;
        record.file = file.map(|path| wire::File { path: self.text(path, room::PATH) });
        record.message = match file {
            Some(path) => format!("hostprobe starts with {path}"),
            None => "hostprobe starts without a configuration file".to_owned(),
        };
    }

    pub(super) fn agent_ready(&self, record: &mut Record, ready: &AgentReady) {
        let (attached, hooks) = HookCoverage::counts(&ready.coverage);
        let test = match &ready.self_test {
            Ok(took) => format!("the self-test saw a death within {} µs", took.as_micros()),
            Err(why) => format!("the self-test failed: {why}"),
        };
        let replaced = ready.coverage.iter().filter(|hook| hook.fallback.is_some() && !hook.absent).count();
        let replaced = if replaced > 0 { format!(", {replaced} stood in for") } else { String::new() };
        let place = match &ready.place {
            place if place.sees_the_host() && place.container.is_none() => String::new(),
            place => format!("; it runs {place}"),
        };
        record.message = format!(
            "hostprobe watches {} ({} may be restarted) with {attached} of {hooks} hooks{replaced}; {test}{place}",
            counted(ready.services.into(), "service"),
            ready.restartable
        );
        record.place = Some(self.place(&ready.place));
        let whole = attached == hooks && ready.self_test.is_ok();
        record.event.outcome = if whole { Outcome::Success } else { Outcome::Failure };
        record.log.level = if whole { Level::Info } else { Level::Warn };
        let hooks = ready.coverage.iter().take(room::ITEMS);
        record.coverage = Some(
            hooks
                .map(|hook| wire::Coverage {
                    hook: self.name(hook.hook),
                    attached: hook.missing.is_none(),
                    reason: hook.missing.as_ref().map(|why| self.text(why, room::MESSAGE)),
                    absent: hook.absent,
                    fallback: hook.fallback.as_ref().map(|what| self.text(what, room::MESSAGE)),
                    lacking: hook.lacking.iter().map(|what| self.text(what, room::DETAIL)).collect(),
                })
                .collect(),
        );
        record.self_test = Some(wire::SelfTest {
            passed: ready.self_test.is_ok(),
            duration_ms: ready.self_test.as_ref().ok().map(|took| millis(*took)),
            reason: ready.self_test.as_ref().err().map(|why| self.text(why, room::DETAIL)),
        });
        record.watching = Some(wire::Watching { services: ready.services, restartable: ready.restartable });
    }

    fn place(&self, place: &Place) -> wire::Place {
        wire::Place {
            pid_namespace: wire::PidNamespace { inode: place.pid_namespace, initial: place.sees_the_host() },
            container: place.container.as_ref().map(|container| wire::OwnContainer {
                runtime: (!container.runtime.is_empty()).then(|| self.foreign_name(&container.runtime)),
                id: container.id.as_ref().map(|id| self.foreign_name(id)),
            }),
            cgroup: wire::OwnCgroup {
                mode: place.cgroups.as_str().to_owned(),
                part: place.cgroups_are_a_part,
            },
        }
    }

    pub(super) fn agent_reload(&self, record: &mut Record, reload: &Reload) {
        match reload {
            Reload::Unchanged => {
                record.event.outcome = Outcome::Success;
                record.message = "hostprobe read its configuration again; nothing has changed".to_owned();
            }
            Reload::Applied(changes) => {
                record.event.outcome = Outcome::Success;
                if !changes.needs_restart.is_empty() {
                    record.log.level = Level::Warn;
                }
                let changed = changes.changed.iter().take(RELOADED).map(|service| wire::ReloadedService {
                    name: self.name(&service.name),
                    keys: service.keys.clone(),
                    at_next_start: service.at_next_start,
                });
                let names =
                    |names: &[String]| names.iter().take(RELOADED).map(|name| self.name(name)).collect();
                record.reload = Some(wire::Reload {
                    services: wire::ReloadedServices {
                        added: names(&changes.added),
                        removed: names(&changes.removed),
                        changed: changed.collect(),
                    },
                    keys: changes.keys.clone(),
                    needs_restart: changes.needs_restart.clone(),
                });
                let words = changes.sentences().join("; ");
                record.message = format!("hostprobe changed its configuration: {words}");
            }
            Reload::Refused(why) => {
                record.event.outcome = Outcome::Failure;
                record.log.level = Level::Error;
                record.error = Some(self.error(why));
                record.message =
                    format!("hostprobe refused the new configuration and keeps the old one: {why}");
            }
        }
    }

    pub(super) fn agent_stop(&self, record: &mut Record, reason: &str) {
        record.event.outcome = Outcome::Success;
        record.event.reason = Some(self.text(reason, room::DETAIL));
        record.message = format!("hostprobe stops: {reason}");
    }

    pub(super) fn unit(&self, record: &mut Record, unit: &UnitState, service: ServiceId) {
        let name = self.names.unit(service).unwrap_or_else(|| self.names.service(service));
        let job = unit.job.as_ref().map(|job| format!(", {} job queued", job.kind)).unwrap_or_default();
        record.message = format!("{name} is {} ({}, result {}{job})", unit.active, unit.sub, unit.result);
        let well = unit.result == "success" && unit.active != "failed";
        record.event.outcome = if well { Outcome::Success } else { Outcome::Failure };
        record.log.level = if well { Level::Info } else { Level::Warn };
        record.event.provider = match unit.container {
            Some(_) => wire::Provider::Container,
            None => wire::Provider::Dbus,
        };
        record.service = Some(self.service(service));
        record.unit = Some(wire::Unit {
            active_state: self.name(&unit.active),
            sub_state: self.name(&unit.sub),
            result: self.name(&unit.result),
            invocation_id: (!unit.invocation_id.is_empty()).then(|| self.name(&unit.invocation_id)),
            main_pid: unit.main.map(|main| main.pid),
            restarts: unit.restarts,
            restarts_itself: unit.restarts_itself,
            job: unit.job.as_ref().map(|job| wire::UnitJob { id: job.id, kind: self.name(&job.kind) }),
        });
    }

    pub(super) fn probe(&self, record: &mut Record, report: &ProbeReport, change: ProbeChange) {
        let (error, detail) = match &report.outcome {
            ProbeOutcome::Ok => (None, report.remark.as_deref()),
            ProbeOutcome::Starting(words) => (None, Some(words.as_str())),
            ProbeOutcome::Failed(failure, why) => (Some(*failure), Some(why.as_str())),
        };
        let who = format!("{}'s {} probe", self.names.service(report.service), report.kind.as_str());
        let consecutive = match change {
            ProbeChange::Fail(times) => {
                record.event.outcome = Outcome::Failure;
                record.log.level = Level::Warn;
                let why = detail.map(|why| format!(": {why}")).unwrap_or_default();
                let times_in_a_row =
                    if times > 1 { format!(" {times} times in a row") } else { String::new() };
                record.message = format!("{who} failed{times_in_a_row}{why}");
                Some(times)
            }
            ProbeChange::Recover(times) => {
                record.event.outcome = Outcome::Success;
                let failures = counted(times.into(), "failure");
                record.message = format!("{who} succeeds again after {failures}");
                Some(times)
            }
            ProbeChange::Slow => {
                record.event.outcome = Outcome::Success;
                record.log.level = Level::Warn;
                record.message = match &report.remark {
                    Some(remark) => format!("{who} succeeded, but {remark}"),
                    None => {
                        let took = rounded(report.duration);
                        format!("{who} succeeded, but took {took}, which is above its limit")
                    }
                };
                None
            }
        };
        record.event.provider = wire::Provider::Probe;
        record.service = Some(self.service(report.service));
        record.probe = Some(wire::Probe {
            kind: report.kind.into(),
            index: u32::try_from(report.index).unwrap_or(u32::MAX),
            target: self.text(&report.target, room::PATH),
            duration_ms: millis(report.duration),
            error: error.map(Into::into),
            detail: detail.map(|why| self.text(why, room::DETAIL)),
            consecutive,
            server: report.server.as_ref().map(|server| self.server(server)),
        });
    }

    fn server(&self, server: &ServerUsage) -> wire::Server {
        let share = |share: Share| wire::Share { used: share.used, max: share.most };
        let ServerReport {
            role,
            lag,
            lag_bytes,
            replicas,
            evicted_keys,
            unsaved_changes,
            uncovered_slots,
            transaction,
            waiting,
            wait,
            transaction_id_age,
            withheld,
        } = server.report;
        wire::Server {
            connections: server.connections.map(share),
            memory: server.memory.map(share),
            holders: server.holders.iter().take(room::HOLDERS).map(|holder| self.holder(holder)).collect(),
            role: role.map(Into::into),
            lag_ms: lag.map(millis),
            lag_bytes,
            replicas,
            evicted_keys,
            unsaved_changes,
            uncovered_slots,
            transaction_ms: transaction.map(millis),
            waiting,
            wait_ms: wait.map(millis),
            transaction_id_age,
            withheld,
        }
    }

    fn holder(&self, holder: &Holder) -> wire::Holder {
        let said = |text: &String| self.text(text, room::NAME);
        wire::Holder {
            user: holder.user.as_ref().map(said),
            application: holder.application.as_ref().map(said),
            client: holder.client.map(|ip| wire::HolderClient { ip: ip.to_string() }),
            service: holder.service.map(|service| self.name(self.names.service(service))),
            process: holder
                .process
                .as_ref()
                .map(|(pid, name)| wire::HolderProcess { pid: *pid, name: self.foreign_name(name) }),
            connections: holder.connections,
        }
    }

    pub(super) fn service_state(
        &self,
        record: &mut Record,
        service: ServiceId,
        state: ServiceState,
        previous: ServiceState,
        why: &str,
    ) {
        (record.event.outcome, record.log.level) = match state {
            ServiceState::Healthy => (Outcome::Success, Level::Info),
            ServiceState::Starting | ServiceState::Stopped | ServiceState::Paused => {
                (Outcome::Unknown, Level::Info)
            }
            ServiceState::Degraded => (Outcome::Failure, Level::Warn),
            ServiceState::Unhealthy | ServiceState::Down => (Outcome::Failure, Level::Error),
        };
        record.message = format!(
            "{} is {}, was {}: {why}",
            self.names.service(service),
            state.as_str(),
            previous.as_str()
        );
        record.event.reason = Some(self.text(why, room::DETAIL));
        record.service = Some(wire::Service {
            state: Some(state.into()),
            previous: Some(previous.into()),
            ..self.service(service)
        });
    }

    pub(super) fn loss(&self, record: &mut Record, class: &str, count: u64, place: &str) {
        record.event.outcome = Outcome::Failure;
        record.log.level = Level::Error;
        record.message = format!("{count} of class {class} were lost at {place}");
        record.loss =
            Some(wire::Loss { class: self.name(class), count, place: self.text(place, room::PATH) });
    }
}
