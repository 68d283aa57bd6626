//! From the file's shape to a valid [`Config`]: everything that one key alone cannot tell.

mod address;
mod alert;
mod container;
mod defaults;
mod dependency;
mod environment;
mod events;
mod exchange;
mod exec;
mod fleet;
mod heartbeat;
mod hook;
mod host;
mod http;
mod outside;
mod probe;
mod served;
mod service;
mod tls;
mod value;

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

pub(super) use self::outside::Outside;
use self::value::{absolute, time, whole};
use super::{
    container::ContainerOptions,
    daemon::{Config, KernelOptions, OutwardHeartbeat, SnapshotOptions, StateOptions},
    error::Findings,
    file::{self, Control, File, Kernel, Snapshots, State},
    host::HostOptions,
    protocol::WEBHOOK,
    spanned::Spanned,
    values::{At, Size, Text, Written, quote},
};
use crate::fact::RestartBudget;

/// The configuration as far as it is valid, and everything that is wrong or remarkable about it.
pub(super) fn check(file: &File, outside: &Outside<'_>) -> (Config, Findings) {
    let mut found = Findings::default();
    let default = Config::default();
    let config = Config {
        events: file.events.as_ref().map_or(default.events, |it| events::outputs(&it.0, &mut found)),
        event_files: file
            .events
            .as_ref()
            .map_or(default.event_files, |it| events::rotation(&it.0, &mut found)),
        http: file.http.as_ref().map_or(default.http, |http| served::listen(&http.0, &mut found)),
        http_tls: file.http.as_ref().and_then(|http| served::tls(&http.0.tls, &mut found)),
        http_token: file.http.as_ref().and_then(|http| served::token(&http.0.token_file, &mut found)),
        public_url: file.http.as_ref().and_then(|http| served::public_url(&http.0, &mut found)),
        control: file.control.as_ref().map_or(default.control, |control| socket(&control.0, &mut found)),
        control_group: file.control.as_ref().and_then(|control| group(&control.0, &mut found)),
        kernel: file
            .kernel
            .as_ref()
            .map_or_else(KernelOptions::default, |kernel| kernel_options(&kernel.0, &mut found)),
        snapshots: file
            .snapshots
            .as_ref()
            .map_or_else(SnapshotOptions::default, |snapshots| snapshot_options(&snapshots.0, &mut found)),
        state: file
            .state
            .as_ref()
            .map_or_else(StateOptions::default, |state| state_options(&state.0, &mut found)),
        alerts: alert::receivers(&file.alert, &file.service, outside, &mut found),
        heartbeat: file
            .heartbeat
            .as_ref()
            .and_then(|written| heartbeat_elsewhere(written, outside, &mut found)),
        fleet: fleet::fleet(&file.fleet, &mut found),
        hooks: file
            .hook
            .iter()
            .filter_map(|written| hook::hook(written, &file.service, &mut found))
            .collect(),
        containers: file
            .containers
            .as_ref()
            .map_or_else(ContainerOptions::default, |written| container::options(&written.0, &mut found)),
        on_exit: file.supervisor.as_ref().and_then(|it| Some(it.0.on_exit.as_ref()?.0)),
        host: file.host.as_ref().map_or_else(HostOptions::default, |written| host::host(&written.0)),
        restart_budget: restart_budget(file),
        services: service::services(
            &defaults::with_defaults(file.defaults.as_ref(), &file.service),
            outside,
            &mut found,
        ),
        warnings: Vec::new(),
    };
    (config, found)
}

fn socket(control: &Control, found: &mut Findings) -> Option<PathBuf> {
    // `sun_path` (`unix(7)`) has 108 bytes, the last of which is zero.
    const LONGEST: usize = 107;
    let Some(socket) = &control.socket else { return Config::default().control };
    if socket.get_ref().is_empty() {
        return None;
    }
    let path = absolute(socket, "the absolute path of a socket, or \"\" for none", found)?;
    if path.as_os_str().len() > LONGEST {
        found.error(socket.span(), format!("a path of more than {LONGEST} bytes; expected a shorter one"));
        return None;
    }
    Some(path)
}

fn group(control: &Control, found: &mut Findings) -> Option<String> {
    let group = control.group.as_ref()?;
    let name = group.get_ref().as_str();
    // What separates fields and members in group(5) is in no name.
    if name.is_empty() || name.contains([':', ',', '\n', '\0']) {
        let message = format!("found {}; expected the name of a group such as \"adm\"", quote(name));
        found.error(group.span(), message);
        return None;
    }
    Some(name.to_owned())
}

fn kernel_options(kernel: &Kernel, found: &mut Findings) -> KernelOptions {
    let defaults = KernelOptions::default();
    let urgent = ring(&kernel.urgent_ring, "urgent_ring", found);
    let bulk = ring(&kernel.bulk_ring, "bulk_ring", found);
    let exits = &kernel.unwatched_exits_per_second;
    let exits = whole(exits, "unwatched_exits_per_second", 0..=1_000_000, found);
    KernelOptions {
        urgent_ring_bytes: urgent.unwrap_or(defaults.urgent_ring_bytes),
        bulk_ring_bytes: bulk.unwrap_or(defaults.bulk_ring_bytes),
        unwatched_exits_per_second: exits.unwrap_or(defaults.unwatched_exits_per_second),
    }
}

fn ring(size: &At<Text<Size>>, key: &str, found: &mut Findings) -> Option<u32> {
    // The kernel takes whole pages only, and the largest there are have 64 KiB.
    const SMALLEST: u64 = 64 << 10;
    const LARGEST: u64 = 256 << 20;
    let size = size.as_ref()?;
    let Text(Size(bytes)) = *size.get_ref();
    if bytes.is_power_of_two() && (SMALLEST..=LARGEST).contains(&bytes) {
        return u32::try_from(bytes).ok();
    }
    let message = format!("`{key}` is {bytes} bytes; expected a power of two from 64KiB to 256MiB");
    found.error(size.span(), message);
    None
}

fn snapshot_options(snapshots: &Snapshots, found: &mut Findings) -> SnapshotOptions {
    let defaults = SnapshotOptions::default();
    let path = snapshots.directory.as_ref();
    let directory = path.and_then(|path| absolute(path, "the absolute path of a folder", found));
    let keep = whole(&snapshots.keep, "keep", 1..=10_000, found);
    SnapshotOptions {
        directory: directory.unwrap_or(defaults.directory),
        keep: keep.unwrap_or(defaults.keep),
        stacks: snapshots.stacks.as_ref().map_or(defaults.stacks, |stacks| *stacks.get_ref()),
    }
}

/// The shortest and the longest time that incidents are kept.
const KEEP: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(3650 * 24 * 3600);

fn state_options(state: &State, found: &mut Findings) -> StateOptions {
    let defaults = StateOptions::default();
    let path = state.directory.as_ref();
    let directory = path.and_then(|path| absolute(path, "the absolute path of a folder", found));
    let recording = state.recording.as_ref().and_then(|size| recording_bytes(size, found));
    StateOptions {
        directory: directory.unwrap_or(defaults.directory),
        recording_bytes: recording.unwrap_or(defaults.recording_bytes),
        keep: time(&state.keep, "keep", KEEP, found).unwrap_or(defaults.keep),
    }
}

fn recording_bytes(size: &Spanned<String>, found: &mut Findings) -> Option<u64> {
    // A segment, an eighth of it, has to hold some of the longest lines.
    const SMALLEST: u64 = 1 << 20;
    let text = size.get_ref().as_str();
    if matches!(text, "" | "0") {
        return Some(0);
    }
    let bytes = Size::read(text).map(|Size(bytes)| bytes).filter(|&bytes| bytes >= SMALLEST);
    if bytes.is_none() {
        let message = format!(
            "found {}; expected a size from 1MiB on, such as \"64MiB\", or \"\" for no recording",
            quote(text)
        );
        found.error(size.span(), message);
    }
    bytes
}

fn restart_budget(file: &File) -> RestartBudget {
    let budget = file.restart.as_ref().and_then(|restart| restart.0.budget.as_ref());
    budget.map_or_else(RestartBudget::default, |Text(budget)| RestartBudget {
        restarts: budget.count,
        window: budget.window,
    })
}

/// What is asked elsewhere while the daemon works.
fn heartbeat_elsewhere(
    written: &Spanned<super::values::Table<file::OutwardHeartbeat>>,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<OutwardHeartbeat> {
    const INTERVAL: Duration = Duration::from_secs(60);
    const RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    let (place, super::values::Table(keys)) = (written.span(), written.get_ref());
    let interval = time(&keys.interval, "interval", RANGE, found).unwrap_or(INTERVAL);
    let Some(url) = &keys.url else {
        found.error(place, "a heartbeat without an address; expected `url = \"https://…\"`");
        return None;
    };
    let url = address::address(url, &keys.password_file, &WEBHOOK, outside, found)?;
    Some(OutwardHeartbeat { url, interval })
}
