//! The daemon's rights after its start: it keeps those that it goes on using, and drops the rest.
//!
//! Capabilities belong to threads, and threads and programs inherit them (`capabilities(7)`). So [`narrow`] is called
//! while the daemon has a single thread. That thread starts all later ones, and they have no more rights than it has.
//!
//! The daemon first opens what takes a right once: the eBPF programs (`CAP_BPF`, `CAP_PERFMON`), the kernel's symbols
//! and log (`CAP_SYSLOG`), its process connector (`CAP_NET_ADMIN`), a port below 1024 (`CAP_NET_BIND_SERVICE`). All of
//! it works on without the right.
//!
//! | kept | what for |
//! |---|---|
//! | `CAP_SYS_PTRACE` | executable, descriptors, namespaces and system calls of other users' processes in `/proc`; listeners in other network namespaces |
//! | `CAP_DAC_READ_SEARCH` | folders of theirs, as `/proc/PID/fd`; pid files and password files |
//! | `CAP_BPF` | only where the kernel wants it for every use of a map (before Linux 5.19, where `kernel.unprivileged_bpf_disabled` is set) |
//! | `CAP_NET_RAW` | only with an `icmp` probe: to send echo requests where `net.ipv4.ping_group_range` does not let its group |
//! | `CAP_KILL`, `CAP_DAC_OVERRIDE` | only where hostprobe starts programs: to end those that run as another user, and to execute them and write their output where another user's folders are |
//!
//! The operator's programs, which are the commands under `exec`, those that restart a service, and the hooks, may need any right.
//! Without such programs, the process can never get a right back: `no_new_privs` is set and the bounding set is
//! emptied. With them, neither is touched: what root executes has all rights again, setuid works, and ambient
//! capabilities stay for them. Root's permitted set stays as well, so that those programs can dump core: there the
//! daemon does not use its rights, but could take them up again.

use std::{fs, io, path::Path};

use rustix::{
    io::Errno,
    process::geteuid,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_ambient_set,
        capability_is_in_bounding_set, configure_capability_in_ambient_set, no_new_privs,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

use crate::{
    config::{Config, Identity},
    fact::ProbeKind,
    sensor::ebpf::EbpfSensor,
};

/// Needed to read this host.
const LOOKING: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);

/// Needed to start, feed and end programs, beside their own rights.
const STARTING: CapabilitySet = CapabilitySet::KILL.union(CapabilitySet::DAC_OVERRIDE);

/// Needed to send echo requests where `net.ipv4.ping_group_range` does not let the daemon's group.
const PINGING: CapabilitySet = CapabilitySet::NET_RAW;

/// Used at the daemon's start and dropped then: to load and attach the eBPF programs, to read the kernel's symbols and
/// log, and to use its process connector.
const ATTACHING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_ADMIN);

/// What the daemon does not see without a right.
const LOST: [(CapabilitySet, &str); 2] = [
    (CapabilitySet::SYS_PTRACE, "the executables, listeners and namespaces of other users' processes"),
    (CapabilitySet::DAC_READ_SEARCH, "the listeners, connections and open files of other users' processes"),
];

/// The daemon could not drop its rights.
#[derive(Debug, thiserror::Error)]
#[error("the rights that are not needed cannot be given up: {call}: {source}")]
pub struct PrivilegeError {
    call: &'static str,
    source: Errno,
}

/// The rights that a configuration needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The capabilities that the daemon keeps, as far as it has them.
    pub keep: CapabilitySet,
    /// Whether it will start the operator's programs.
    pub starts_programs: bool,
    /// Whether it will send echo requests.
    pub pings: bool,
}

impl Plan {
    /// The rights that this configuration needs.
    pub fn of(config: &Config) -> Self {
        let starts = |service: &crate::config::Service| {
            matches!(service.identity, Identity::Exec(_))
                || service.restart.command.is_some()
                || service.restart.before.is_some()
                || service.probes.iter().any(|probe| probe.exec.is_some())
        };
        let starts_programs = !config.hooks.is_empty() || config.services.iter().any(starts);
        let starting = if starts_programs { STARTING } else { CapabilitySet::empty() };
        let pings =
            config.services.iter().flat_map(|service| &service.probes).any(|it| it.kind == ProbeKind::Icmp);
        let pinging = if pings { PINGING } else { CapabilitySet::empty() };
        Self { keep: LOOKING | starting | pinging, starts_programs, pings }
    }

    /// Adds the right that this kernel needs for the use of maps. The calling thread finds out by a trial.
    pub fn and_maps_of(mut self, sensor: &EbpfSensor) -> Result<Self, PrivilegeError> {
        let own = get()?;
        let tried = own.effective & self.keep;
        set(CapabilitySets { effective: tried, ..own })?;
        let refused = sensor.maps_are_refused();
        set(own)?;
        if refused {
            self.keep |= CapabilitySet::BPF;
        }
        Ok(self)
    }
}

/// Drops the daemon's rights that it does not need, and logs those that it keeps. Meant for a process with one thread.
///
/// A failure is logged, and the daemon goes on with more rights than it needs.
pub(crate) fn drop_unneeded(config: &Config, sensor: Option<&EbpfSensor>) {
    let plan = Plan::of(config);
    warn_of_what_is_missing(plan.starts_programs);
    let plan = sensor.map_or(Ok(plan), |sensor| plan.and_maps_of(sensor));
    match plan.and_then(narrow) {
        Ok(kept) => tracing::info!("hostprobe keeps these capabilities: {}", names(kept)),
        Err(error) => tracing::error!("{error}"),
    }
    match others_with_more(Path::new("/proc/self/task")) {
        Ok(others) if others.is_empty() => {}
        Ok(others) => tracing::error!("threads have kept rights: {}", others.join(", ")),
        Err(error) => {
            tracing::warn!(%error, "/proc/self/task: cannot read whether all threads dropped their rights")
        }
    }
}

/// Logs the rights that the process was started without.
fn warn_of_what_is_missing(starts_programs: bool) {
    for lost in lost() {
        tracing::warn!("{lost}");
    }
    if starts_programs && no_new_privs().unwrap_or(false) {
        tracing::warn!(
            "programs that hostprobe starts have no more rights than it has, and setuid programs do not work, because \
             no_new_privs is set; under systemd, install exec.conf"
        );
    }
}

/// What the daemon does not see because a right is missing, a sentence each.
pub fn lost() -> Vec<String> {
    let own = capabilities(None).map_or(CapabilitySet::empty(), |own| own.effective);
    let missing = LOST.iter().filter(|(capability, _)| !own.contains(*capability));
    missing.map(|(capability, lost)| format!("without {}, {lost} are not seen", names(*capability))).collect()
}

/// Drops rights of the calling thread, and so of the threads that it will start. Returns those that it keeps.
pub fn narrow(plan: Plan) -> Result<CapabilitySet, PrivilegeError> {
    let own = get()?;
    if !plan.starts_programs {
        empty_bounding_set(own.effective)?;
    }
    // This one comes first: the kernel removes from it what leaves the permitted or inheritable set.
    let mut given = CapabilitySet::empty();
    for capability in each() {
        if ambient(capability)? {
            if plan.starts_programs && !(LOOKING | STARTING | ATTACHING).contains(capability) {
                given |= capability;
            } else {
                configure_capability_in_ambient_set(capability, false)
                    .map_err(|source| PrivilegeError { call: "PR_CAP_AMBIENT_LOWER", source })?;
            }
        }
    }
    let kept = own.effective & plan.keep;
    // A program that gains permitted capabilities cannot dump core any more (`commit_creds` in the kernel). Every
    // program that root executes gains them, unless root had them already.
    let lent = if plan.starts_programs && geteuid().is_root() { own.permitted } else { given };
    let inheritable = own.inheritable & given;
    set(CapabilitySets { effective: kept, permitted: kept | lent, inheritable })?;
    if !plan.starts_programs {
        set_no_new_privs(true).map_err(|source| PrivilegeError { call: "PR_SET_NO_NEW_PRIVS", source })?;
    }
    Ok(kept)
}

/// A thread without the right does not need it: with `no_new_privs` it gains nothing from this set.
fn empty_bounding_set(effective: CapabilitySet) -> Result<(), PrivilegeError> {
    if !effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    let failed = |source| PrivilegeError { call: "PR_CAPBSET_DROP", source };
    for capability in each() {
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability).map_err(failed)?,
            // This kernel does not know the capability.
            Ok(false) | Err(Errno::INVAL) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn ambient(capability: CapabilitySet) -> Result<bool, PrivilegeError> {
    match capability_is_in_ambient_set(capability) {
        // This kernel does not know the capability.
        Err(Errno::INVAL) => Ok(false),
        answer => answer.map_err(|source| PrivilegeError { call: "PR_CAP_AMBIENT_IS_SET", source }),
    }
}

fn get() -> Result<CapabilitySets, PrivilegeError> {
    capabilities(None).map_err(|source| PrivilegeError { call: "capget", source })
}

fn set(sets: CapabilitySets) -> Result<(), PrivilegeError> {
    set_capabilities(None, sets).map_err(|source| PrivilegeError { call: "capset", source })
}

/// Each capability on its own.
fn each() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

/// Capabilities by name, for people.
pub fn names(set: CapabilitySet) -> String {
    let named = set.iter_names().map(|(name, _)| format!("CAP_{name}"));
    let named: Vec<_> = named.collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

/// The threads in a `task` folder with rights that the calling thread does not have: their names and ids.
fn others_with_more(tasks: &Path) -> io::Result<Vec<String>> {
    let own = capabilities(None)?.effective;
    let mut others = Vec::new();
    for task in fs::read_dir(tasks)? {
        // A thread that has ended meanwhile has no rights.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
        let line =
            |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
        let effective = u64::from_str_radix(line("CapEff:"), 16).unwrap_or(u64::MAX);
        if effective & !own.bits() != 0 {
            others.push(format!("{} ({})", line("Name:"), line("Pid:")));
        }
    }
    Ok(others)
}

#[cfg(test)]
mod tests;
