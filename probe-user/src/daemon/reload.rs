//! A reload: the configuration file is read again, and what it changes takes effect at once.
//!
//! A file that is not valid changes nothing. A service that stays keeps its id, its state and its process.

use std::{sync::Arc, time::Duration};

use super::{Daemon, executor::units, next_config::NextConfig, operator_wait::OperatorWait};
use crate::{
    clock::Timestamp,
    config::{Config, Difference, Identity, Probe, Service},
    emit::Names,
    fact::{
        CommandKind, Fact, Observation, OperatorCommand, OperatorReport, Order, Orders, Reload,
        ReloadChanges, ServiceId,
    },
    probe::icmp_way,
    process::{deadline, privileges::Plan},
    sensor::ebpf::CgroupId,
    serve::control::{Refusal, RefusalKind, ReloadRequest},
};

/// How long the last events of a former output may take to be written.
const FORMER_OUTPUT: Duration = Duration::from_secs(10);

impl Daemon {
    /// Reopens the event files, and reads the configuration file again.
    pub fn reload(&mut self) {
        self.publisher.reopen();
        if self.reloads.is_under_way {
            self.reloads.is_next = true;
            return;
        }
        self.reloads.is_under_way = true;
        self.notifier.reloading();
        let (file, events) = (self.reloads.file.clone(), self.reloads.events.clone());
        let next = NextConfig::read(file, events, Arc::clone(&self.config));
        self.executor.outcomes.spawn(async move { super::Outcome::Reloaded(Box::new(next.await)) });
    }

    /// Reloads, and answers the client of the control socket once that is done.
    pub fn on_reload_request(&mut self, request: ReloadRequest) {
        let ReloadRequest { by, reason, answer } = request;
        let since = Timestamp::now();
        let order = Order { kind: CommandKind::Reload, by, reason, since, until: None };
        let report = OperatorReport { service: None, incident: None, order, fault: None, error: None };
        self.publisher.publish(Fact::Operator(report), since);
        let waits = if self.reloads.is_under_way {
            &mut self.reloads.waits_for_next
        } else {
            &mut self.reloads.waits
        };
        waits.push(answer);
        self.reload();
    }

    /// The file was read.
    pub(super) fn on_reloaded(&mut self, next: Result<NextConfig, String>) {
        let reload = match next {
            _ if self.stopping => return,
            Ok(next) => self.apply(next),
            Err(why) => Reload::Refused(why),
        };
        self.publisher.publish(Fact::AgentReload(reload.clone()), Timestamp::now());
        self.notifier.ready();
        self.reloads.is_under_way = false;
        for request in std::mem::take(&mut self.reloads.waits) {
            // A client that went away needs no answer.
            let _ = request.send(reload.clone());
        }
        if std::mem::take(&mut self.reloads.is_next) {
            self.reloads.waits = std::mem::take(&mut self.reloads.waits_for_next);
            self.reload();
        }
    }

    fn apply(&mut self, next: NextConfig) -> Reload {
        let NextConfig { mut config, outputs } = next;
        let (plan, running_plan) = (Plan::of(&config), Plan::of(&self.config));
        if plan.pings && !running_plan.pings && icmp_way().is_err() {
            return Reload::Refused(
                "there was no `icmp` probe when hostprobe started, so it gave up CAP_NET_RAW, and the sysctl \
                 net.ipv4.ping_group_range does not let its group; restart hostprobe to use one"
                    .to_owned(),
            );
        }
        if plan.starts_programs && !self.may_start_programs {
            return Reload::Refused(
                "no service had `exec`, `restart.command` or `restart.before`, and there was no hook, when hostprobe \
                 started, so it gave up the rights that these take; restart hostprobe to use them"
                    .to_owned(),
            );
        }
        let running = Arc::clone(&self.config);
        let mut next_id = self.reloads.next_id;
        config.number_after(&running, &mut next_id);
        let needs_restart = config.keep_fixed(&running);
        let keys = config.changed_keys(&running);
        let difference = config.difference(&running);
        let name = |config: &Config, id: &ServiceId| config.name_of(*id).to_owned();
        let changes = ReloadChanges {
            added: difference.added.iter().map(|id| name(&config, id)).collect(),
            removed: difference.removed.iter().map(|id| name(&running, id)).collect(),
            changed: difference.changed.iter().filter_map(|(_, told)| told.clone()).collect(),
            keys,
            needs_restart,
        };
        if changes.is_empty() {
            return Reload::Unchanged;
        }
        if let Err(error) = self.executor.configure_alerts(&config.alerts) {
            return Reload::Refused(format!("alert: {error}"));
        }
        if let Err(why) = self.executor.heartbeat.configure(config.heartbeat.as_ref()) {
            return Reload::Refused(why);
        }
        if let Some(outputs) = outputs {
            self.publisher.replace_outputs(outputs, FORMER_OUTPUT);
        }
        self.executor.prober.wait_for_heartbeats(&config.services);
        if let Some(hooks) = &mut self.executor.hooks {
            hooks.configure(&config.hooks);
        }
        self.executor.inspector.configure(config.snapshots.clone());
        self.reloads.next_id = next_id;
        self.replace_services(config, &running, &difference);
        Reload::Applied(changes)
    }

    /// Lets the engine and all that knows of services take over those of another configuration.
    fn replace_services(&mut self, config: Config, running: &Config, difference: &Difference) {
        // What the sensors have seen by now belongs to the services as they were.
        self.drain_sensors();
        let names = Names::after(&config, self.publisher.names());
        self.publisher.rename_facts(&names);
        self.executor.names = names;
        let replaced = self.orders_of_replaced(&config, running, &difference.removed);
        let config = Arc::new(config);
        for service in difference.removed.iter().filter_map(|id| running.service(*id)) {
            let forget_orders = !config.services.iter().any(|other| other.name == service.name);
            self.remove_service(service, forget_orders);
        }
        self.config = Arc::clone(&config);
        if config.restart_budget != running.restart_budget {
            self.observe(Observation::RestartBudget(config.restart_budget));
        }
        let changed = difference.changed.iter().map(|(id, _)| *id);
        let changed: Vec<&Service> = changed.filter_map(|id| config.service(id)).collect();
        let added: Vec<&Service> = difference.added.iter().filter_map(|id| config.service(*id)).collect();
        let reprobed = |service: &&&Service| {
            running.service(service.id).is_none_or(|before| before.probes != service.probes)
        };
        let reprobed: Vec<ServiceId> = changed.iter().filter(reprobed).map(|service| service.id).collect();
        self.publisher.rename_services(&reprobed);
        for service in changed {
            if let Some(before) = running.service(service.id) {
                self.change_service(service, before);
            }
        }
        for service in &added {
            self.observe(Observation::Configured(service.id, Box::new(service.settings())));
            if let Some(orders) = replaced.iter().find(|(name, _)| *name == service.name) {
                let remembered = OperatorCommand::Remembered(orders.1.clone());
                self.observe(Observation::Operator(service.id, remembered));
            }
            self.add_service(service);
        }
        let reader = self.enricher.reader().clone();
        self.watch_expected_ports(&reader);
        self.executor.pressure.configure(&config, self.executor.prober.epoch());
        self.check_maintenance();
        self.executor.watch_containers(added.iter().copied());
        self.watch_added_units(units(added));
        deadline::put(deadline::after(self.executor.longest_stop(&config)));
    }

    /// The operators' orders about services that another one of the same name replaces.
    fn orders_of_replaced(
        &self,
        config: &Config,
        running: &Config,
        removed: &[ServiceId],
    ) -> Vec<(String, Orders)> {
        let stays = |name: &str| config.services.iter().any(|service| service.name == name);
        let removed = self.engine.view().filter(|view| removed.contains(&view.service));
        let orders = removed.map(|view| (running.name_of(view.service).to_owned(), view.orders));
        orders.filter(|(name, orders)| stays(name) && *orders != Orders::default()).collect()
    }

    fn remove_service(&mut self, service: &Service, forget_orders: bool) {
        let id = service.id;
        self.observe(Observation::Removed(id));
        self.executor.remove(service, &self.enricher);
        self.set_main(id, None);
        for cgroup in self.enricher.members.remove(id) {
            if let Err(error) = self.sensors.unwatch_cgroup(CgroupId::Unified(cgroup)) {
                tracing::warn!("{}: its cgroup is still watched: {error}", service.name);
            }
        }
        self.search.remove(id);
        self.sockets.remove(id);
        self.windows.remove(id);
        self.forget_container(id);
        if let Some(exit) = self.early.remove(&id) {
            self.publish_early(id, exit);
        }
        self.reloads.to_start.retain(|other| *other != id);
        if forget_orders && let Some(store) = &self.executor.store {
            store.keep_orders(&service.name, Orders::default());
        }
        for wait in self.operator_waits.extract_if(.., |wait| wait.service == id) {
            let OperatorWait { answer, .. } = wait;
            let message = format!("{}: a reload removed it from the configuration", service.name);
            let _ = answer.send(Err(Refusal { kind: RefusalKind::Failed, message }));
        }
    }

    fn change_service(&mut self, service: &Service, before: &Service) {
        let mut settings = service.settings();
        for (index, probe) in settings.probes.iter_mut().enumerate() {
            probe.is_new = before.probes.get(index) != service.probes.get(index);
        }
        self.observe(Observation::Configured(service.id, Box::new(settings)));
        self.executor.replace_probes(service, before);
        if let (Identity::Exec(exec), Some(process)) =
            (&service.identity, self.executor.supervised.get(&service.id))
        {
            process.configure(exec.clone());
        }
        self.enricher.members.expect_nothing(service.id);
        self.enricher.members.expect(service);
    }

    fn add_service(&mut self, service: &Service) {
        self.enricher.members.expect(service);
        self.search.add(service);
        if matches!(service.identity, Identity::Exec(_)) {
            self.reloads.to_start.push(service.id);
            self.start_added();
        }
        self.executor.spawn_probes(service);
        self.look_for(self.search.interested(|_| true));
    }

    /// The command of a removed service has ended.
    pub(super) fn on_removed_command(&mut self, name: &str) {
        self.executor.keep_command(name, None);
        self.start_added();
    }

    /// Starts the commands of new services. They wait for the end of those of removed services, whose port or cgroup
    /// may be the same.
    fn start_added(&mut self) {
        if self.executor.awaits_removals() || self.stopping {
            return;
        }
        let config = Arc::clone(&self.config);
        for id in std::mem::take(&mut self.reloads.to_start) {
            if let Some(Service { name, identity: Identity::Exec(exec), .. }) = config.service(id) {
                self.supervise(id, name, exec);
            }
        }
    }

    fn watch_added_units(&mut self, units: Vec<(ServiceId, String)>) {
        if !units.is_empty() && self.executor.systemd.is_err() {
            self.connect_at_last(Duration::ZERO);
        }
        self.executor.watch_units(units);
    }

    /// Whether the configuration still has a service.
    pub(super) fn is_watched(&self, service: ServiceId) -> bool {
        self.config.service(service).is_some()
    }
}

impl super::Executor {
    pub(super) fn spawn_probes(&mut self, service: &Service) {
        let start = |(index, probe): (usize, &Probe)| self.prober.spawn(service.id, index, probe.clone());
        let handles = service.probes.iter().enumerate().map(start).collect();
        self.probes.insert(service.id, handles);
    }

    /// Starts the probes that a reload changed. The others go on.
    fn replace_probes(&mut self, service: &Service, before: &Service) {
        let mut known = self.probes.remove(&service.id).unwrap_or_default().into_iter();
        let mut handles = Vec::new();
        for (index, probe) in service.probes.iter().enumerate() {
            let known = known.next().filter(|_| before.probes.get(index) == Some(probe));
            handles.push(known.unwrap_or_else(|| self.prober.spawn(service.id, index, probe.clone())));
        }
        self.probes.insert(service.id, handles);
    }
}
