//! The checks of hooks and host, one function each.

use std::path::Path;

use super::check::{Check, State};
use crate::{
    act::systemd::Systemd,
    config::Fleet,
    fact::HookCoverage,
    fleet::reach,
    host::{ProcReader, cgroup::Hierarchy, place},
    inspect::host::clock_can_be_read,
    probe::{IcmpWay, icmp_way},
    process::{privileges, self_test},
    sensor::{
        Sensors,
        ebpf::{Hook, fields, rights},
        fallback,
    },
};

/// The kernel's description of its own types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// This exists where systemd is the host's init (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

pub(super) fn hook(hook: &HookCoverage) -> Check {
    let sees = Hook::at(hook.hook).map_or("", Hook::sees);
    let check = match &hook.missing {
        None if hook.lacking.is_empty() => Check::full(hook.hook, sees),
        None => {
            Check::new(hook.hook, State::Degraded, format!("{sees}; without {}", hook.lacking.join("; ")))
        }
        Some(_) if hook.absent => {
            Check::absent(hook.hook, format!("{sees}: this kernel has no such tracepoint"))
        }
        Some(reason) => Check::new(hook.hook, State::Degraded, format!("{sees}: not attached: {reason}")),
    };
    Check { fallback: hook.fallback.clone(), ..check }
}

pub(super) fn rights() -> Check {
    let missing = rights::missing(Path::new("/proc/self/status"));
    let mut lost = privileges::lost();
    if !missing.is_empty() {
        lost.insert(0, format!("{} missing: no eBPF program can be loaded", missing.join(" and ")));
    }
    if lost.is_empty() {
        return Check::full("rights", "to load eBPF programs, and to examine processes of other users");
    }
    Check::degraded("rights", lost.join("; "), "run it as root, or grant it these capabilities")
}

pub(super) fn types() -> Check {
    match fields::read(Path::new(TYPES)) {
        Ok(_) => Check::full("kernel types", format!("BTF in {TYPES}")),
        Err(error) => {
            let remedy =
                "run a kernel with CONFIG_DEBUG_INFO_BTF=y, as all large distributions have since 2021";
            Check::degraded("kernel types", error.to_string(), remedy)
        }
    }
}

pub(super) async fn self_test(sensors: &mut Sensors, reader: &ProcReader) -> Check {
    match self_test::run(self_test::start(), sensors, reader, &mut Vec::new()).await {
        Ok(took) => Check::full("self-test", format!("a death is seen within {} µs", took.as_micros())),
        Err(why) => Check::degraded("self-test", why, "stop what else loads this host, and try again"),
    }
}

pub(super) fn place() -> Check {
    let place = place::find("/".as_ref(), std::process::id());
    match &place.foreign_proc {
        Some(why) => {
            let detail = format!("/proc shows another pid namespace than hostprobe's own: {why}");
            Check::degraded(
                "place",
                detail,
                "mount a /proc of its own, or run it in the host's pid namespace",
            )
        }
        None if place.sees_the_host() => Check::full("place", place.to_string()),
        None => {
            Check::degraded("place", place.to_string(), "run it in the host's pid namespace (--pid=host)")
        }
    }
}

pub(super) fn cgroups(reader: &ProcReader) -> Check {
    let cgroups = reader.cgroups();
    let (v2, memory) = (cgroups.has(Hierarchy::V2), cgroups.has(Hierarchy::Memory));
    let detail = match (v2, memory || cgroups.has(Hierarchy::Systemd)) {
        (true, false) => "v2",
        (true, true) => "hybrid: v1 controllers, and v2 beside them",
        (false, true) => "v1",
        (false, false) => {
            let remedy = "mount cgroup2 at /sys/fs/cgroup";
            return Check::degraded("cgroups", "none is mounted: units and containers are not known", remedy);
        }
    };
    Check::full("cgroups", detail)
}

pub(super) async fn systemd() -> Check {
    match Systemd::connect().await {
        Ok(systemd) => Check::full("systemd", format!("its bus answers (pid {})", systemd.manager_pid())),
        Err(_) if !Path::new(SYSTEMD).exists() => Check::absent("systemd", "it does not run this host"),
        Err(error) => {
            let detail = format!("units cannot be watched or restarted: {error}");
            Check::degraded("systemd", detail, "start dbus.service, or set DBUS_SYSTEM_BUS_ADDRESS")
        }
    }
}

pub(super) fn pressure(reader: &ProcReader) -> Check {
    let stalls = reader.stalls();
    if [stalls.cpu, stalls.memory, stalls.io].iter().all(Option::is_some) {
        return Check::full("PSI", "cpu, memory, io");
    }
    let detail = "/proc/pressure is missing: only the daemon's own delays show an overloaded host";
    Check::degraded("PSI", detail, "boot with psi=1, on a kernel with CONFIG_PSI=y")
}

/// What takes more than `/proc` and `/sys`.
pub(super) fn host_checks() -> Check {
    const LOST: [&str; 2] = [
        "the clock's offset, its steps and a lost time service",
        "hung tasks and errors of disks, file systems and memory",
    ];
    let read = [
        (clock_can_be_read(), "the state of the clock", LOST[0]),
        (fallback::log_can_be_read(), "the kernel's log", LOST[1]),
    ];
    let lacks = |(read, what, lost): (std::io::Result<()>, &str, &str)| {
        read.err().map(|error| format!("{what} cannot be read: {error}; {lost} are not reported"))
    };
    let lacking: Vec<String> = read.into_iter().filter_map(lacks).collect();
    if lacking.is_empty() {
        return Check::full("host checks", "the clock and the kernel's log can be read");
    }
    let remedy = "run it as root, or grant it CAP_SYSLOG and adjtimex(2); in the sandbox of the unit, install host-checks.conf";
    Check::degraded("host checks", lacking.join("; "), remedy)
}

/// What hosts tell each other.
pub(super) async fn fleet(fleet: &Fleet, host_name: &str) -> Check {
    match reach(fleet, host_name).await {
        Ok(found) => Check::full("fleet", found),
        Err(why) => {
            let remedy = "correct [fleet] and its files, or open the way to the servers; docs/fleet.md has the permissions";
            Check::degraded("fleet", format!("this host takes no part in it: {why}"), remedy)
        }
    }
}

/// The way of `icmp` probes to the network.
pub(super) fn icmp() -> Check {
    match icmp_way() {
        Ok(IcmpWay::Ping) => Check::full("icmp", "echo requests by ping sockets (net.ipv4.ping_group_range)"),
        Ok(IcmpWay::Raw) => Check::full("icmp", "echo requests by raw sockets (CAP_NET_RAW)"),
        Err(error) => {
            let remedy = "set the sysctl net.ipv4.ping_group_range to a range with hostprobe's group, or grant it CAP_NET_RAW";
            Check::degraded("icmp", format!("icmp probes cannot send echo requests: {error}"), remedy)
        }
    }
}
