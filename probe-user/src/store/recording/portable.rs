//! An observation independent of its configuration: with services by name.

use std::fmt::Debug;

use crate::{
    config::{Identity, Probe, RestartPolicy, Service},
    fact::{
        Examination, Holder, Incident, Membership, Observation, OperatorCommand, Orders, Peer, ProbeOutcome,
        Process, RestartBudget, ServiceId,
    },
};

/// The kind of an observation, in a few words.
pub const fn words(observation: &Observation) -> &'static str {
    match observation {
        Observation::Running(..) => "its main process runs",
        Observation::Listening(..) => "the ports it listens on",
        Observation::Exit(..) => "the end of a process",
        Observation::OomKill(..) => "the OOM killer's choice",
        Observation::Listener(..) => "a change of a listener",
        Observation::Probe(_) => "a probe's result",
        Observation::Unanswered(..) => "what its processes did while probes waited",
        Observation::Unit(..) => "its unit's state",
        Observation::UnitUnknown(..) => "its unit's state cannot be read",
        Observation::RestartOutcome(..) => "how its restart went",
        Observation::RestartDelayed(..) => "its restart waits for the daemon",
        Observation::Usage(..) => "what its processes use",
        Observation::Levels(..) => "what it uses of resources that can run out",
        Observation::SocketError(..) => "an error of a socket",
        Observation::Retransmits(..) => "segments sent again",
        Observation::AcceptQueue(..) => "a full accept queue",
        Observation::Suspended(..) => "its main process was stopped",
        Observation::CoreSignal(..) => "a signal that dumps core",
        Observation::Connected { .. } => "whom it connects to",
        Observation::Examined(..) => "what its processes did",
        Observation::Snapshot(..) => "the snapshot of its processes",
        Observation::Stacks(..) => "what its threads wait for",
        Observation::Context(..) => "the context of its fault",
        Observation::AskedToEnd(..) => "a request to end",
        Observation::OutsideRequest(..) => "a program's request",
        Observation::PortHolder(..) => "who has its port",
        Observation::Holders(..) => "who holds its connections",
        Observation::ListenerChecked(..) => "whether a port of it is held",
        Observation::Operator(..) => "an operator's command",
        Observation::Remembered(..) => "what an earlier run knew of it",
        Observation::Configured(..) => "its settings after a reload",
        Observation::Removed(_) => "a reload removed it",
        Observation::Successor(..) => "the successor of its main process",
        Observation::RestartBudget(_) => "the restart budget of all services after a reload",
        Observation::Host(_) => "a check of the host",
        Observation::WritesTo(..) => "the file systems that it writes to",
        Observation::Pressure(_) => "how hard the host is pressed",
        Observation::ConnectionsUnseen => "connections are not seen",
        Observation::Foreign(_) => "a service of another host",
        Observation::HeldElsewhere(..) => "what is held on other hosts because of it",
        Observation::Fleet(_) => "the fleet",
    }
}

/// The observation with each service as a position in the list of names beside it.
pub fn named(observation: Observation, name: impl Fn(ServiceId) -> String) -> (Observation, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut place = |id: ServiceId| {
        let name = name(id);
        let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        u32::try_from(at).ok().map(ServiceId)
    };
    // Every service has a place, so nothing is left out. An observation of a host without pressure changes nothing.
    let placed = map(observation, &mut place).unwrap_or_else(|| Observation::Pressure(Default::default()));
    (placed, names)
}

/// The observation with the services that `find` knows by their names. An error is the name of its service, if that is
/// unknown.
pub fn placed(
    observation: Observation,
    names: &[String],
    find: impl Fn(&str) -> Option<ServiceId>,
) -> Result<Observation, String> {
    let name = |id: ServiceId| usize::try_from(id.0).ok().and_then(|at| names.get(at));
    let about = observation.service().and_then(name).cloned().unwrap_or_default();
    map(observation, &mut |id| find(name(id)?)).ok_or(about)
}

/// The observation with each of its services replaced; None if one that it cannot do without is not replaced.
/// One that only adds to it, such as that of a signal's sender, is left out then.
fn map(mut seen: Observation, to: &mut impl FnMut(ServiceId) -> Option<ServiceId>) -> Option<Observation> {
    match &mut seen {
        Observation::Exit(exit, Membership { service, .. }, _) => {
            *service = to(*service)?;
            exit.sender_service = exit.sender_service.and_then(&mut *to);
        }
        Observation::OomKill(_, Membership { service, .. }, _) => *service = to(*service)?,
        Observation::Probe(report) => {
            report.service = to(report.service)?;
            map_holders(report.server.iter_mut().flat_map(|server| &mut server.holders), to);
        }
        Observation::Unanswered(unanswered, _) => unanswered.service = to(unanswered.service)?,
        Observation::SocketError(error, id, _) => {
            *id = to(*id)?;
            error.peer = map_peer(error.peer, to);
        }
        Observation::Retransmits(count, id, _) => {
            *id = to(*id)?;
            count.peer = map_peer(count.peer, to);
        }
        Observation::Connected { client, server } => {
            *client = to(*client)?;
            *server = to(*server)?;
        }
        Observation::PortHolder(id, holder) => {
            *id = to(*id)?;
            if let Some(holder) = holder {
                holder.service = holder.service.and_then(&mut *to);
            }
        }
        Observation::Holders(id, holders) => {
            *id = to(*id)?;
            map_holders(holders.iter_mut(), to);
        }
        Observation::Remembered(id, memory) => {
            *id = to(*id)?;
            for remembered in memory.incidents_mut() {
                map_incident(&mut remembered.incident, to)?;
            }
        }
        Observation::Configured(id, settings) => {
            *id = to(*id)?;
            settings.depends_on = settings.depends_on.iter().filter_map(|on| to(*on)).collect();
            settings.start_after = settings.start_after.iter().filter_map(|on| to(*on)).collect();
        }
        // The numbers of foreign services are of no list. Their names are in the observation.
        Observation::Foreign(foreign) => {
            foreign.clients = foreign.clients.iter().filter_map(|client| to(*client)).collect();
        }
        Observation::HeldElsewhere(id, _)
        | Observation::Running(id, _)
        | Observation::Removed(id)
        | Observation::WritesTo(id, _)
        | Observation::Listening(id, _)
        | Observation::Listener(_, id, _)
        | Observation::Unit(id, _)
        | Observation::UnitUnknown(id, _)
        | Observation::RestartOutcome(id, _)
        | Observation::RestartDelayed(id, _)
        | Observation::Usage(id, _)
        | Observation::Levels(id, _)
        | Observation::AcceptQueue(_, id, _)
        | Observation::Suspended(_, id, _)
        | Observation::CoreSignal(_, id)
        | Observation::Examined(id, _)
        | Observation::Snapshot(id, _)
        | Observation::Stacks(id, _)
        | Observation::Context(id, _)
        | Observation::AskedToEnd(id, _)
        | Observation::OutsideRequest(id, _)
        | Observation::Successor(id, _)
        | Observation::ListenerChecked(id, ..)
        | Observation::Operator(id, _) => *id = to(*id)?,
        Observation::RestartBudget(_)
        | Observation::Host(_)
        | Observation::Pressure(_)
        | Observation::Fleet(_)
        | Observation::ConnectionsUnseen => {}
    }
    Some(seen)
}

/// Replaces the services of an incident. One that it holds may be unknown; None if its own is.
pub fn map_incident(
    incident: &mut Incident,
    to: &mut impl FnMut(ServiceId) -> Option<ServiceId>,
) -> Option<()> {
    incident.service = to(incident.service)?;
    incident.cause = to(incident.cause).unwrap_or(incident.service);
    incident.held = incident.held.iter().filter_map(|held| to(*held)).collect();
    Some(())
}

fn map_peer(peer: Peer, to: &mut impl FnMut(ServiceId) -> Option<ServiceId>) -> Peer {
    match peer {
        Peer::Service(id) => to(id).map_or(Peer::Local, Peer::Service),
        Peer::Local | Peer::Remote => peer,
    }
}

fn map_holders<'h>(
    holders: impl Iterator<Item = &'h mut Holder>,
    to: &mut impl FnMut(ServiceId) -> Option<ServiceId>,
) {
    for holder in holders {
        holder.service = holder.service.and_then(&mut *to);
    }
}

/// Redacts and clips the foreign texts of an observation, on which no decision depends, and shortens its lists to
/// `items`. True if a list was longer.
pub fn shorten(seen: &mut Observation, items: usize, mut text: impl FnMut(&mut String)) -> bool {
    let mut process = |process: &mut Process| {
        let path = process.cgroup.as_mut().map(|cgroup| &mut cgroup.path);
        [Some(&mut process.name), process.executable.as_mut(), process.command_line.as_mut(), path]
            .into_iter()
            .flatten()
            .for_each(&mut text);
    };
    match seen {
        Observation::Exit(exit, ..) => {
            process(&mut exit.process);
            exit.actor.iter_mut().flat_map(|actor| actor.texts()).for_each(text);
        }
        Observation::OutsideRequest(_, request) => request.actor.texts().for_each(text),
        Observation::OomKill(kill, ..) => process(&mut kill.victim),
        Observation::Probe(report) => {
            text(&mut report.target);
            match &mut report.outcome {
                ProbeOutcome::Ok => {}
                ProbeOutcome::Starting(words) | ProbeOutcome::Failed(_, words) => text(words),
            }
            if let Some(remark) = &mut report.remark {
                text(remark);
            }
            if let Some(server) = &mut report.server {
                return shorten_holders(&mut server.holders, items, text);
            }
        }
        Observation::Unanswered(unanswered, seen) => {
            text(&mut unanswered.target);
            seen.writes.iter_mut().for_each(text);
        }
        Observation::Holders(_, holders) => return shorten_holders(holders, items, text),
        Observation::Levels(_, levels) => levels.iter_mut().for_each(|level| text(&mut level.limit)),
        Observation::Listening(_, ports) => return cut(ports, items.saturating_mul(16)),
        Observation::Unit(_, state) => {
            if let Some(cgroup) = &mut state.cgroup {
                text(cgroup);
            }
            state.container.iter_mut().flat_map(|container| container.texts()).for_each(text);
        }
        Observation::UnitUnknown(_, error)
        | Observation::RestartOutcome(_, Err(error))
        | Observation::RestartDelayed(_, error)
        | Observation::Snapshot(_, Ok(error) | Err(error)) => text(error),
        Observation::Operator(_, command) => shorten_command(command, &mut text),
        Observation::Remembered(_, memory) => {
            memory.texts().for_each(text);
        }
        // The name of a task or a device, and a sentence with it.
        Observation::Host(reading) => text(&mut reading.words),
        Observation::WritesTo(_, writes) => return cut(&mut writes.devices, items),
        Observation::Examined(_, Some(Examination { writes: Some(path), .. })) => text(path),
        Observation::Stacks(_, stacks) => {
            stacks.texts().for_each(text);
            return cut(&mut stacks.groups, items) | cut(&mut stacks.missing, items);
        }
        Observation::Context(_, context) => {
            context.texts().for_each(text);
            let stack = context.crash.as_mut().is_some_and(|crash| cut(&mut crash.stack, items));
            return stack | cut(&mut context.logs, items) | cut(&mut context.changes, items);
        }
        Observation::Foreign(foreign) => {
            foreign.texts().for_each(text);
            return cut(&mut foreign.clients, items);
        }
        Observation::HeldElsewhere(_, held) => return cut(held, items),
        Observation::Fleet(fleet) => {
            fleet.away.iter_mut().chain(&mut fleet.silent).for_each(text);
            return cut(&mut fleet.silent, items);
        }
        Observation::Running(..)
        | Observation::Listener(..)
        | Observation::AskedToEnd(..)
        | Observation::RestartOutcome(_, Ok(()))
        | Observation::Usage(..)
        | Observation::SocketError(..)
        | Observation::Retransmits(..)
        | Observation::AcceptQueue(..)
        | Observation::Suspended(..)
        | Observation::CoreSignal(..)
        | Observation::Connected { .. }
        | Observation::Examined(..)
        | Observation::PortHolder(..)
        | Observation::Successor(..)
        | Observation::ListenerChecked(..)
        | Observation::Configured(..)
        | Observation::Removed(_)
        | Observation::RestartBudget(_)
        | Observation::Pressure(_)
        | Observation::ConnectionsUnseen => {}
    }
    false
}

/// An operator's reason is a foreign text as well.
fn shorten_command(command: &mut OperatorCommand, text: &mut impl FnMut(&mut String)) {
    let orders = match command {
        OperatorCommand::StopFailed(error) => return text(error),
        OperatorCommand::Maintenance(_) | OperatorCommand::DrillOver => [None, None],
        OperatorCommand::Remembered(Orders { stop, pause }) => [stop.as_mut(), pause.as_mut()],
        OperatorCommand::Stop(order)
        | OperatorCommand::Start(order)
        | OperatorCommand::Restart(order)
        | OperatorCommand::Pause(order)
        | OperatorCommand::Resume(order)
        | OperatorCommand::Ack(_, order)
        | OperatorCommand::Drill(_, order) => [Some(order), None],
    };
    orders.into_iter().flatten().filter_map(|order| order.reason.as_mut()).for_each(text);
}

fn shorten_holders(holders: &mut Vec<Holder>, items: usize, mut text: impl FnMut(&mut String)) -> bool {
    for holder in holders.iter_mut() {
        [holder.user.as_mut(), holder.application.as_mut()].into_iter().flatten().for_each(&mut text);
    }
    cut(holders, items)
}

fn cut<T>(list: &mut Vec<T>, items: usize) -> bool {
    let longer = list.len() > items;
    list.truncate(items);
    longer
}

/// A fingerprint of everything in a configuration that decides: equal for two that lead to the same decisions.
/// Commands and credentials are not in it.
pub fn digest(services: &[Service], restart_budget: RestartBudget) -> String {
    // FNV-1a, 64 bits: enough to detect an edit, and the same on every machine.
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = OFFSET;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([b'\n']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    };
    add(&format!("{restart_budget:?}"));
    for service in services {
        // The windows of maintenance are observed. Each struct is destructured whole, so that a new key does not compile
        // until it is handled here.
        let Service {
            id: _,
            name,
            identity,
            depends_on,
            start_after,
            critical,
            maintenance: _,
            probes,
            restart,
            limits,
            policy,
        } = service;
        // How long a restart may take depends on the end of the command.
        let identity = match identity {
            Identity::Unit(_) => ("unit", None),
            Identity::Exec(exec) => ("exec", Some(exec.stop_timeout)),
            Identity::Match(_) => ("match", None),
            Identity::Container(_) => ("container", None),
            Identity::Remote => ("remote", None),
        };
        let probes: Vec<_> = probes.iter().map(probe_digest).collect();
        let RestartPolicy {
            enabled,
            on_clean_exit,
            budget,
            budget_window,
            backoff_first,
            backoff_max,
            grace,
            command,
            before: _,
        } = restart;
        let restart = (
            (enabled, on_clean_exit, budget, budget_window, command.is_some()),
            (backoff_first, backoff_max, grace),
        );
        // Limits and policy are printed whole: each key of theirs decides.
        let text = format!(
            "{:?}",
            (
                (name, identity, depends_on, start_after, critical, service.local_ports()),
                (probes, restart, limits, policy)
            )
        );
        add(&text);
    }
    format!("{hash:016x}")
}

/// The decisive part of a probe. Its target and expectation show in its result, which is recorded.
fn probe_digest(probe: &Probe) -> impl Debug {
    let Probe {
        kind,
        target: _,
        interval,
        timeout,
        failures,
        slow,
        tls: _,
        http: _,
        expect_status: _,
        expect_body: _,
        exchange: _,
        exec: _,
        expect_answers: _,
        heartbeat: _,
        memory_percent,
        connections_percent,
        server,
        auth_is_alive: _,
    } = probe;
    let times = (*interval, *timeout, *failures, *slow);
    (*kind, probe.port(), times, *memory_percent, *connections_percent, *server)
}
