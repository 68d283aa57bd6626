//! The difference between a running configuration and the one that takes its place.

use std::collections::BTreeMap;

use super::{
    daemon::Config,
    exec::Exec,
    service::{Identity, Service},
};
use crate::fact::{ChangedService, ServiceId};

/// The services that a configuration adds to the running one, takes from it, or changes.
#[derive(Debug, Default)]
pub struct Difference {
    pub added: Vec<ServiceId>,
    pub removed: Vec<ServiceId>,
    /// Those with other settings, each with what to tell the operator; None if the operator changed nothing of it.
    pub changed: Vec<(ServiceId, Option<ChangedService>)>,
}

impl Config {
    /// Gives the services the ids that they have in the `running` configuration, and new ones to those that it does not
    /// have. `next` is the first that was never used.
    ///
    /// What is another process, unit or command by another method is another service, even under the same name.
    pub fn number_after(&mut self, running: &Self, next: &mut u32) {
        let known: BTreeMap<&str, &Service> =
            running.services.iter().map(|service| (service.name.as_str(), service)).collect();
        let ids: Vec<ServiceId> = self
            .services
            .iter()
            .map(|service| match known.get(service.name.as_str()) {
                Some(known) if is_same(&known.identity, &service.identity) => known.id,
                Some(_) | None => {
                    *next += 1;
                    ServiceId(*next - 1)
                }
            })
            .collect();
        // Until now, an id is a position.
        let id_at = |at: ServiceId| usize::try_from(at.0).ok().and_then(|at| ids.get(at)).copied();
        for service in &mut self.services {
            service.id = id_at(service.id).unwrap_or(service.id);
            service.depends_on = service.depends_on.iter().filter_map(|on| id_at(*on)).collect();
            service.start_after = service.start_after.iter().filter_map(|on| id_at(*on)).collect();
        }
        self.services.sort_by_key(|service| service.id);
    }

    /// Keeps what only a restart of the daemon changes as it is in the `running` configuration. Returns the keys that
    /// differ.
    pub fn keep_fixed(&mut self, running: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut fixed = |differs: bool, key: &str| {
            if differs {
                keys.push(key.to_owned());
            }
        };
        fixed(self.http != running.http, "http.listen");
        fixed(self.http_tls != running.http_tls, "http.tls");
        let token = |config: &Self| config.http_token.as_ref().map(|token| token.file.clone());
        fixed(token(self) != token(running), "http.token_file");
        fixed(self.public_url != running.public_url, "http.public_url");
        fixed(self.control != running.control, "control.socket");
        fixed(self.control_group != running.control_group, "control.group");
        let (new, old) = (&self.kernel, &running.kernel);
        fixed(new.urgent_ring_bytes != old.urgent_ring_bytes, "kernel.urgent_ring");
        fixed(new.bulk_ring_bytes != old.bulk_ring_bytes, "kernel.bulk_ring");
        fixed(
            new.unwatched_exits_per_second != old.unwatched_exits_per_second,
            "kernel.unwatched_exits_per_second",
        );
        fixed(self.state.directory != running.state.directory, "state.directory");
        fixed(self.state.recording_bytes != running.state.recording_bytes, "state.recording");
        fixed(self.state.keep != running.state.keep, "state.keep");
        fixed(self.on_exit != running.on_exit, "supervisor.on_exit");
        fixed(self.containers != running.containers, "containers");
        fixed(self.fleet != running.fleet, "fleet");
        if self.host.reads_log() && !running.host.reads_log() {
            let (new, old) = (&mut self.host, &running.host);
            for (new, old, key) in [
                (&mut new.hung_tasks, old.hung_tasks, "host.hung_tasks"),
                (&mut new.block_errors, old.block_errors, "host.block_errors"),
                (&mut new.fs_errors, old.fs_errors, "host.fs_errors"),
                (&mut new.memory_errors, old.memory_errors, "host.memory_errors"),
            ] {
                fixed(*new != old, key);
                *new = old;
            }
        }
        self.http = running.http;
        self.http_tls.clone_from(&running.http_tls);
        self.http_token.clone_from(&running.http_token);
        self.public_url.clone_from(&running.public_url);
        self.control.clone_from(&running.control);
        self.control_group.clone_from(&running.control_group);
        self.kernel = running.kernel.clone();
        self.state = running.state.clone();
        self.on_exit = running.on_exit;
        self.containers = running.containers.clone();
        self.fleet.clone_from(&running.fleet);
        keys
    }

    /// The keys of the daemon as a whole that differ, among those that a reload applies.
    pub fn changed_keys(&self, running: &Self) -> Vec<String> {
        // Each field is named, so that a new key does not compile until it is handled here or in `keep_fixed`.
        let Self {
            events,
            event_files,
            http: _,
            http_tls: _,
            http_token: _,
            public_url: _,
            control: _,
            control_group: _,
            alerts,
            heartbeat,
            fleet: _,
            hooks,
            host,
            restart_budget,
            services: _,
            containers: _,
            kernel: _,
            snapshots,
            state: _,
            on_exit: _,
            warnings: _,
        } = self;
        let keys = [
            ("alert", *alerts != running.alerts),
            ("heartbeat", *heartbeat != running.heartbeat),
            ("hook", *hooks != running.hooks),
            ("host", *host != running.host),
            ("events.output", *events != running.events),
            ("events.output_max", event_files.max_bytes != running.event_files.max_bytes),
            ("events.output_age", event_files.max_age != running.event_files.max_age),
            ("events.output_keep", event_files.keep != running.event_files.keep),
            ("events.output_compress", event_files.compress != running.event_files.compress),
            ("restart.budget", *restart_budget != running.restart_budget),
            ("snapshots", *snapshots != running.snapshots),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
    }

    /// What takes the place of what in the services.
    pub fn difference(&self, running: &Self) -> Difference {
        let mut difference = Difference::default();
        for service in &self.services {
            match running.service(service.id) {
                None => difference.added.push(service.id),
                Some(before) if before == service => {}
                Some(before) => {
                    let keys = changed_keys(service, self, before, running);
                    let told = (!keys.is_empty()).then(|| ChangedService {
                        name: service.name.clone(),
                        at_next_start: starts_otherwise(service, before),
                        keys,
                    });
                    difference.changed.push((service.id, told));
                }
            }
        }
        let gone = running.services.iter().filter(|service| self.service(service.id).is_none());
        difference.removed = gone.map(|service| service.id).collect();
        difference
    }
}

/// Whether a service of the same name goes on. A command that hostprobe runs may change for its next start.
fn is_same(before: &Identity, now: &Identity) -> bool {
    match (before, now) {
        (Identity::Exec(_), Identity::Exec(_)) | (Identity::Remote, Identity::Remote) => true,
        (Identity::Unit(before), Identity::Unit(now)) => before == now,
        (Identity::Match(before), Identity::Match(now)) => before == now,
        (Identity::Container(before), Identity::Container(now)) => before == now,
        (
            Identity::Unit(_)
            | Identity::Exec(_)
            | Identity::Match(_)
            | Identity::Container(_)
            | Identity::Remote,
            _,
        ) => false,
    }
}

/// The keys of a service that differ. Each field is named, so that a new key does not compile until it is handled here.
fn changed_keys(now: &Service, config: &Config, before: &Service, running: &Config) -> Vec<String> {
    let Service {
        id: _,
        name: _,
        identity: _,
        depends_on,
        start_after,
        critical,
        maintenance,
        probes,
        restart,
        limits,
        policy,
    } = now;
    let names = |config: &Config, ids: &[ServiceId]| -> Vec<String> {
        ids.iter().map(|id| config.name_of(*id).to_owned()).collect()
    };
    let of_command = now.exec().zip(before.exec()).map(|(now, before)| exec_keys(now, before));
    let of_service = [
        ("depends_on", names(config, depends_on) != names(running, &before.depends_on)),
        ("start_after", names(config, start_after) != names(running, &before.start_after)),
        ("critical", *critical != before.critical),
        ("maintenance", *maintenance != before.maintenance),
        ("probe", *probes != before.probes),
        ("restart", *restart != before.restart),
        ("limits", *limits != before.limits),
        ("policy", *policy != before.policy),
    ];
    let keys = of_command.into_iter().flatten().chain(of_service);
    keys.filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}

/// The keys of a command, each with whether it differs.
fn exec_keys(now: &Exec, before: &Exec) -> [(&'static str, bool); 13] {
    // Each field is named, so that a new key does not compile until it is handled here.
    let Exec {
        command,
        output,
        output_max,
        output_keep,
        output_stamp,
        directory,
        environment,
        user,
        group,
        umask,
        rlimits,
        stop_signal,
        stop_timeout,
    } = now;
    [
        ("exec", *command != before.command),
        ("output", *output != before.output),
        ("output_max", *output_max != before.output_max),
        ("output_keep", *output_keep != before.output_keep),
        ("output_stamp", *output_stamp != before.output_stamp),
        ("directory", *directory != before.directory),
        ("environment", *environment != before.environment),
        ("user", *user != before.user),
        ("group", *group != before.group),
        ("umask", *umask != before.umask),
        ("rlimits", *rlimits != before.rlimits),
        ("stop_signal", *stop_signal != before.stop_signal),
        ("stop_timeout", *stop_timeout != before.stop_timeout),
    ]
}

/// Whether the next start of its command is another one. How it is stopped changes at once.
fn starts_otherwise(now: &Service, before: &Service) -> bool {
    let Some((now, before)) = now.exec().zip(before.exec()) else { return false };
    let Exec { stop_signal, stop_timeout, .. } = *now;
    *now != Exec { stop_signal, stop_timeout, ..before.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{check::Outside, load::from_text};

    const RUNNING: &str = "[[service]]\nname = \"a\"\nunit = \"a.service\"\n[[service]]\nname = \"b\"\nexec = [\"/bin/b\"]\n\
                           depends_on = [\"a\"]\n[[service]]\nname = \"c\"\nmatch = { port = 3 }\n";

    fn parsed(text: &str) -> Config {
        let outside = Outside { variable: &|_| None, account: &|_, _| Ok(()), readable_by_others: false };
        from_text("h.toml".as_ref(), text, &outside).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// A configuration that takes the place of [`RUNNING`], and the first id after it.
    fn after_running(text: &str) -> (Config, Config, u32) {
        let (running, mut config, mut next) = (parsed(RUNNING), parsed(text), 3);
        config.number_after(&running, &mut next);
        (running, config, next)
    }

    fn ids(config: &Config) -> Vec<(&str, u32)> {
        config.services.iter().map(|service| (service.name.as_str(), service.id.0)).collect()
    }

    #[test]
    fn services_that_stay_keep_their_ids_wherever_they_are_in_the_file() {
        let text = "[[service]]\nname = \"d\"\nunit = \"d.service\"\ndepends_on = [\"a\"]\n[[service]]\nname = \"b\"\n\
                    exec = [\"/bin/b\", \"-v\"]\ndepends_on = [\"d\"]\n[[service]]\nname = \"a\"\nunit = \"a.service\"\n";
        let (running, config, next) = after_running(text);
        assert_eq!((ids(&config), next), (vec![("a", 0), ("b", 1), ("d", 3)], 4));
        assert_eq!(config.service(ServiceId(3)).unwrap().depends_on, [ServiceId(0)]);
        let Difference { added, removed, changed } = config.difference(&running);
        assert_eq!((added, removed), (vec![ServiceId(3)], vec![ServiceId(2)]));
        let [(ServiceId(1), Some(told))] = changed.as_slice() else { panic!("{changed:?}") };
        assert!(told.keys == ["exec", "depends_on"] && told.at_next_start, "{told:?}");
    }

    #[test]
    fn each_key_of_a_command_is_named_and_how_it_is_stopped_changes_at_once() {
        let command = "[[service]]\nname = \"b\"\nexec = [\"/bin/b\"]\ndepends_on = [\"a\"]\n";
        let text = |keys: &str| format!("{command}{keys}[[service]]\nname = \"a\"\nunit = \"a.service\"\n");
        let told = |keys: &str| {
            let (running, config, _) = after_running(&text(keys));
            let mut changed = config.difference(&running).changed;
            let (_, told) = changed.pop().unwrap_or_else(|| panic!("{keys}: nothing changed"));
            told.map(|told| (told.keys, told.at_next_start)).unwrap_or_default()
        };
        let key =
            |keys: &[&str], at_next_start| (keys.iter().map(ToString::to_string).collect(), at_next_start);
        assert_eq!(told("user = \"www\"\ngroup = \"www\"\n"), key(&["user", "group"], true));
        assert_eq!(
            told("environment = { A = \"b\" }\numask = \"077\"\n"),
            key(&["environment", "umask"], true)
        );
        assert_eq!(
            told("output = \"/var/log/b\"\noutput_max = \"1MiB\"\n"),
            key(&["output", "output_max"], true)
        );
        assert_eq!(
            told("rlimits = { nofile = 9 }\nstart_after = [\"a\"]\n"),
            key(&["rlimits", "start_after"], true)
        );
        let at_once = key(&["stop_signal", "stop_timeout"], false);
        assert_eq!(told("stop_signal = \"SIGINT\"\nstop_timeout = \"99s\"\n"), at_once);
    }

    #[test]
    fn another_unit_or_kind_under_the_same_name_is_another_service() {
        let text = "[[service]]\nname = \"a\"\nunit = \"other.service\"\n[[service]]\nname = \"b\"\nexec = [\"/bin/b\"]\n\
                    depends_on = [\"a\"]\n[[service]]\nname = \"c\"\nexec = [\"/bin/c\"]\n";
        let (running, config, _) = after_running(text);
        assert_eq!(ids(&config), [("b", 1), ("a", 3), ("c", 4)]);
        let difference = config.difference(&running);
        assert_eq!(difference.removed, [ServiceId(0), ServiceId(2)]);
        // It depends on another service now, of which the operator changed nothing in it.
        assert!(matches!(difference.changed.as_slice(), [(ServiceId(1), None)]), "{difference:?}");
    }

    #[test]
    fn what_only_a_restart_changes_stays_and_is_named_each_time() {
        let (running, mut config, _) =
            after_running(&format!("[http]\nlisten = \"\"\n[snapshots]\nkeep = 3\n{RUNNING}"));
        assert_eq!(config.keep_fixed(&running), ["http.listen"]);
        assert_eq!(config.changed_keys(&running), ["snapshots"]);
        assert_eq!(config.http, running.http);
        assert!(config.difference(&running).changed.is_empty());
    }

    #[test]
    fn the_kernels_log_is_opened_at_the_start_alone() {
        let off = "[host]\nhung_tasks = false\nblock_errors = false\nfs_errors = false\nmemory_errors = false\nconntrack_percent = false\n\
                   files_percent = false\nneighbours_percent = false\nthermal_percent = false\n";
        let running = parsed(&format!("{off}{RUNNING}"));
        assert!(!running.host.reads_log());
        let mut config = parsed(&format!("[host]\nfs_errors = false\n{RUNNING}"));
        let keys = ["host.hung_tasks", "host.block_errors", "host.memory_errors"];
        assert_eq!(config.keep_fixed(&running), keys);
        assert!(!config.host.hung_tasks && config.host.conntrack_percent.is_some(), "it is counted as well");
        let (mut config, running) =
            (parsed(RUNNING), parsed(&format!("[host]\nhung_tasks = false\n{RUNNING}")));
        assert_eq!(config.keep_fixed(&running), [""; 0], "it is open");
    }
}
