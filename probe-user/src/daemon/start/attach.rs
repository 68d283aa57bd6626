//! The first phase of the start: everything that needs the rights that the daemon then drops.

use tokio::net::TcpListener;

use super::options::{RunError, RunOptions};
use crate::{
    clock::Timestamp,
    config::{Config, HostOptions, KernelOptions},
    fact::{HookCoverage, Place},
    host::{ProcReader, place},
    inspect::host::clock_can_be_read,
    inspect::oom_report::OomLog,
    process::privileges,
    sensor::{Sensors, ebpf::Options},
    serve::{self, Access, control::ControlSocket},
    time_slice,
};

/// What the first phase opened.
pub(super) struct Attached {
    /// When the sensors began to watch.
    pub(super) began: Timestamp,
    pub(super) place: Place,
    pub(super) reader: ProcReader,
    pub(super) sensors: Sensors,
    /// Where health and metrics are served.
    pub(super) page: Option<Page>,
    pub(super) control: Option<ControlSocket>,
    pub(super) oom_log: OomLog,
}

/// Where and to whom health and metrics are served.
pub(super) struct Page {
    pub(super) listener: TcpListener,
    pub(super) access: Access,
}

/// Attaches the sensors, binds the HTTP port, and drops the rights that are not needed afterwards.
pub(super) async fn attach(config: &Config, options: &RunOptions) -> Result<Attached, RunError> {
    let began = Timestamp::now();
    let place = locate()?;
    let reader = ProcReader::new("/")?;
    let mut sensors =
        Sensors::open(&kernel_options(&config.kernel, options, config.host.reads_log()), &reader, began)
            .map_err(RunError::Descriptors)?;
    sensors.spawn_log();
    sensors.coverage().iter().for_each(warn_of);
    report_clock(&config.host);
    // A port below 1024 takes a right as well.
    let page = listen(config).await;
    // To give the socket to a group takes a right, too.
    let control = control(config).await;
    let oom_log = OomLog::open();
    // A negative nice value takes a right as well.
    time_slice::go_ahead();
    privileges::drop_unneeded(config, sensors.ebpf());
    Ok(Attached { began, place, reader, sensors, page, control, oom_log })
}

/// Finds out where the daemon runs, and says so. It has to be a place where `/proc` and the kernel call a process the same.
fn locate() -> Result<Place, RunError> {
    let place = place::find("/".as_ref(), std::process::id());
    if let Some(why) = place.foreign_proc {
        return Err(RunError::ForeignProc(why));
    }
    if place.sees_the_host() {
        tracing::info!("hostprobe runs {place}");
    } else {
        tracing::warn!(
            "hostprobe runs {place}; to watch the host, run it in the host's pid namespace (--pid=host)"
        );
    }
    Ok(place)
}

fn kernel_options(options: &KernelOptions, run: &RunOptions, host_reports: bool) -> Options {
    Options {
        urgent_ring_bytes: options.urgent_ring_bytes,
        bulk_ring_bytes: options.bulk_ring_bytes,
        unwatched_per_second: options.unwatched_exits_per_second,
        log: run.kernel_log,
        without: run.without.clone(),
        host_reports,
        ..Options::default()
    }
}

/// Logs what a hook does not report, and its fallback.
fn warn_of(hook: &HookCoverage) {
    if let Some(missing) = &hook.missing {
        let fallback = hook.fallback.as_deref().unwrap_or("none");
        if hook.absent {
            tracing::info!("{}: {missing}; fallback: {fallback}", hook.hook);
            return;
        }
        tracing::warn!("{}: hook is not attached: {missing}; fallback: {fallback}", hook.hook);
    }
    for lacking in &hook.lacking {
        tracing::warn!("{}: hook reports less than it could: {lacking}", hook.hook);
    }
}

/// Logs that the checks of the clock are off. Nothing waits for them.
fn report_clock(host: &HostOptions) {
    if (host.clock_offset.is_some() || host.clock_sync)
        && let Err(error) = clock_can_be_read()
    {
        tracing::info!(
            "host: the state of the clock cannot be read: {error}; its offset, its steps and a lost time service are not \
             reported; under systemd, install host-checks.conf"
        );
    }
}

/// Binds the address for health and metrics. If that fails, the daemon runs without it: to watch matters more than to
/// be watched.
async fn listen(config: &Config) -> Option<Page> {
    let bound = serve::bind(config.http?).await.map_err(|error| error.to_string());
    let page = bound.and_then(|listener| Ok(Page { listener, access: Access::read(config)? }));
    page.inspect_err(|error| tracing::error!("http: health and metrics are not served: {error}")).ok()
}

/// Makes the control socket. If that fails, the daemon runs without it.
async fn control(config: &Config) -> Option<ControlSocket> {
    let opened = serve::control::open(config.control.as_ref()?, config.control_group.as_deref()).await;
    opened
        .inspect_err(|error| {
            tracing::warn!("control socket: `hostprobe status` cannot ask this daemon: {error}")
        })
        .ok()
}
