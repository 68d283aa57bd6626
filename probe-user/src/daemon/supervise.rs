//! Commands under `exec` come under the supervisor. Those that an earlier daemon has left running are taken over.

use std::{io, process, sync::Arc};

use super::Daemon;
use crate::{
    act::supervisor::{Orphans, RunningCommand, Standing, SupervisedProcess, Supervision},
    clock::Timestamp,
    config::{Config, Exec, OnExit},
    fact::{ExitStatus, Membership, Observation, ProcessKey, ServiceId},
    host::{OwnCgroup, Owner, ProcReader},
};

impl Daemon {
    /// Ends the commands that an earlier daemon has left running, and that the configuration does not have any more. A daemon
    /// that only observes, or has no configuration, leaves them to a later one.
    pub(super) fn end_unconfigured(&mut self) {
        let config = Arc::clone(&self.config);
        let names = self.executor.left.keys().filter(|name| !has_exec(&config, name));
        let names: Vec<String> = names.cloned().collect();
        if self.only_observes || self.reloads.file.is_none() {
            if !names.is_empty() {
                tracing::info!("{}: an earlier hostprobe started them, and they run on", names.join(", "));
            }
            return;
        }
        for name in names {
            let Some((command, _)) = self.take_left(&name) else { continue };
            let Some(id) = self.executor.names.find(&name) else { continue };
            tracing::info!(
                "{name}: ends pid {}, which an earlier hostprobe started: the configuration has no such service under exec \
                 any more",
                command.process.pid
            );
            let with = self.supervision((id, &name), command.exec(), Some(&command));
            let (process, _) = SupervisedProcess::take_over(with, &command);
            self.executor.end_command(name, process, Vec::new(), command.stop_timeout());
        }
    }

    /// Puts a command under the supervisor, in its own cgroup if the daemon can create one. What runs of it is taken over.
    /// Otherwise it is started if it waits for nothing.
    pub(super) fn supervise(&mut self, id: ServiceId, name: &str, exec: &Exec) {
        let left = self.take_left(name);
        if left.is_some() && self.only_observes {
            // A daemon that changes nothing does not end what it has found either.
            self.executor.on_exit = OnExit::Leave;
        }
        let with = self.supervision((id, name), exec.clone(), left.as_ref().map(|(command, _)| command));
        if let Some(cgroup) = &with.cgroup {
            self.set_cgroup(id, cgroup.id);
        }
        let stays_down = self.engine.is_kept_stopped(id) || self.engine.is_backing_off(id);
        let Some((command, _)) = left else {
            let process = SupervisedProcess::new(with);
            if stays_down {
                // An earlier daemon may have left processes behind.
                process.halt(Vec::new());
            } else if !self.engine.waits_to_start(id) {
                process.restart(Vec::new(), None);
            }
            self.executor.supervised.insert(id, process);
            return;
        };
        let (process, runs) = SupervisedProcess::take_over(with, &command);
        let (pid, is_same) = (command.process.pid, command.is_of(exec) || self.only_observes);
        // A service whose restart is held runs as it is, unless an operator has stopped it.
        if self.engine.is_kept_stopped(id) || stays_down && !runs {
            process.halt(Vec::new());
        } else if !is_same {
            if runs {
                tracing::info!(
                    "{name}: ends pid {pid}, which an earlier hostprobe started: its command has changed"
                );
            }
            if self.engine.waits_to_start(id) {
                process.halt(Vec::new());
            } else {
                process.restart(Vec::new(), None);
            }
        }
        let is_adopted = is_same && !self.engine.is_kept_stopped(id) && (runs || !stays_down);
        let goes_on = is_adopted && !runs && self.restarting.remove(&id);
        if goes_on {
            tracing::info!("{name}: the restart that an earlier hostprobe began goes on");
            process.restart(Vec::new(), None);
        }
        self.executor.supervised.insert(id, process);
        if is_adopted && runs {
            if self.take_new_main(id, command.process) {
                self.observe_listeners(id, command.process, &self.survey());
            }
            if self.enricher.members.main_of(id) == Some(command.process) {
                tracing::info!("{name}: goes on as pid {pid}, which an earlier hostprobe started");
                return;
            }
        }
        if is_adopted && !goes_on {
            tracing::warn!("{name}: pid {pid} has ended while no hostprobe ran; its status is unknown");
            self.observe_missed_end(id, &command);
        }
    }

    /// Nothing runs of a service under `exec` any more. A removed one is forgotten once all of it has ended.
    pub(super) fn forget_command(&self, service: ServiceId) {
        if self.is_watched(service) {
            self.executor.keep_command(self.config.name_of(service), None);
        }
    }

    /// A command has ended while no daemon ran.
    fn observe_missed_end(&mut self, id: ServiceId, command: &RunningCommand) {
        self.observe(Observation::Running(id, command.process));
        let mut exit = self.enricher.ended(command.process, 0, ExitStatus::Unknown, Timestamp::now());
        if exit.process.name.is_empty() {
            exit.process.name = command.program().rsplit('/').next().unwrap_or_default().to_owned();
        }
        self.on_process_exit(exit, Some(Membership { service: id, main: true }));
    }

    /// What an earlier daemon has left of a service, and whether it runs. What cannot be told for sure to be the same
    /// process is left alone.
    fn take_left(&mut self, name: &str) -> Option<(RunningCommand, bool)> {
        let kept = self.executor.left.remove(name);
        if let Some(mut command) = self.noted_in_cgroup(name) {
            command.complete(kept.as_ref());
            let runs = command.standing(name, self.enricher.reader()) == Standing::Runs;
            self.executor.keep_command(name, Some(Box::new(command.clone())));
            return Some((command, runs));
        }
        let command = kept?;
        match command.standing(name, self.enricher.reader()) {
            Standing::Runs => return Some((command, true)),
            Standing::Ended => return Some((command, false)),
            Standing::Booted => {}
            Standing::Differs(why) => tracing::warn!(
                "{name}: pid {}, which an earlier hostprobe may have started, is not taken over and not ended: {why}",
                command.process.pid
            ),
        }
        self.executor.keep_command(name, None);
        None
    }

    /// What runs of a service by the word of its cgroup, or has ended unseen. That counts more than the state file, which may
    /// not have had it yet when the daemon was killed.
    fn noted_in_cgroup(&self, name: &str) -> Option<RunningCommand> {
        let processes = self.enricher.reader();
        let state = self.executor.state_directory?;
        let abandoned = processes.abandoned_cgroups(name, Some(state));
        let noted = abandoned.iter().filter_map(|cgroup| {
            let noted = processes.cgroups().command_in(&cgroup.path, state)?;
            let command: RunningCommand = serde_json::from_str(&noted).ok()?;
            // It speaks of its own cgroup alone.
            let is_there = command.made_cgroup(name, processes).is_some_and(|made| made.path == cgroup.path);
            is_there.then(|| (command.standing(name, processes), command))
        });
        let (running, others): (Vec<_>, Vec<_>) =
            noted.partition(|(standing, _)| *standing == Standing::Runs);
        let ended = others.into_iter().filter(|(standing, _)| *standing == Standing::Ended);
        running.into_iter().chain(ended).map(|(_, command)| command).next()
    }

    /// What a command is supervised with. What an earlier daemon has left stays in its cgroup.
    fn supervision(
        &mut self,
        (service, name): (ServiceId, &str),
        exec: Exec,
        left: Option<&RunningCommand>,
    ) -> Supervision {
        let processes = self.enricher.reader().clone();
        let cgroups = processes.cgroups();
        let me = processes.key_of(process::id());
        let state_directory = self.executor.state_directory;
        let owner = Owner {
            daemon: me.unwrap_or(ProcessKey { pid: process::id(), start: Timestamp::default() }),
            state: state_directory.filter(|_| self.executor.on_exit == OnExit::Leave),
        };
        let made_before = left.and_then(|command| command.made_cgroup(name, &processes));
        let cgroup = match (made_before, me) {
            (Some(cgroup), _) => Ok(cgroup),
            (None, _) if left.is_some_and(|command| !command.has_cgroup()) => {
                Err(io::Error::other(format!("an earlier hostprobe could not make one for {name}")))
            }
            (None, Some(me)) => cgroups.create_for(me, name),
            (None, None) => Err(io::Error::other("/proc does not show the daemon itself")),
        };
        match &cgroup {
            Ok(cgroup) if left.is_some() || owner.state.is_some() => {
                if let Err(error) = cgroups.set_owner(&cgroup.path, owner) {
                    tracing::debug!(
                        "{}: the kernel does not keep whose the cgroup is: {error}; another hostprobe with a service of \
                         this name takes it for abandoned",
                        cgroup.path.display()
                    );
                }
            }
            Ok(_) => {}
            Err(error) => self.adopt_orphans(error, &processes),
        }
        let mut left_behind = processes.abandoned_cgroups(name, state_directory);
        let cgroup = cgroup.ok();
        let is_own = |other: &OwnCgroup| cgroup.as_ref().is_some_and(|cgroup| cgroup.path == other.path);
        left_behind.retain(|other| !is_own(other));
        let (threads, reports) = (self.executor.starts.clone(), self.executor.reports.clone());
        Supervision {
            service,
            name: name.to_owned(),
            exec,
            cgroup,
            left_behind,
            owner,
            state_directory,
            processes,
            threads,
            reports,
        }
    }

    /// Commands have no cgroups of their own, so their processes are found in other ways.
    fn adopt_orphans(&mut self, error: &io::Error, reader: &ProcReader) {
        if self.executor.orphans.is_some() {
            return;
        }
        tracing::warn!(
            "commands under exec run without cgroups of their own: {error}; a restart finds their processes by process \
             group, session, parent and environment. Under systemd, install the drop-in exec.conf of the package"
        );
        match Orphans::adopt(reader.clone()) {
            Ok(orphans) => self.executor.orphans = Some(orphans),
            Err(error) => tracing::warn!("hostprobe: cannot become the parent of orphans: {error}"),
        }
    }
}

/// Whether a service of this name is under `exec`.
fn has_exec(config: &Config, name: &str) -> bool {
    config.services.iter().any(|service| service.name == name && service.exec().is_some())
}
