//! hostprobe: detects failures of services with eBPF and probes, finds the cause, restarts what can be mended, and
//! alerts.
//!
//! [`run`] is the whole daemon. [`Daemon`] turns the records of the kernel, systemd, the supervisor and the probes into
//! observations for the [`engine`], which alone decides. The daemon executes the engine's effects after each
//! observation, and their outcomes come back as observations.

pub mod account;
pub mod act;
pub mod bounded_thread;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod descriptors;
pub mod discover;
pub mod doctor;
pub mod emit;
pub mod engine;
pub mod enrich;
pub mod escape;
pub mod fact;
pub mod file_stamp;
pub mod fleet;
pub mod growth;
pub mod host;
pub mod inspect;
pub mod json_schema;
pub mod outcomes;
pub mod probe;
pub mod process;
pub mod progress;
pub mod redact;
pub mod replay;
pub mod rotated_file;
pub mod sensor;
pub mod serve;
pub mod server_certificate;
pub mod spawn;
pub mod stacks;
pub mod store;
pub mod time_slice;
pub mod untrusted_file;

use std::future::Future;

use config::Config;
use daemon::{Daemon, RunError, RunOptions};

/// Runs the daemon until `shutdown` is ready. Needs a Tokio runtime with I/O and time enabled; one thread is
/// enough.
///
/// Fails only before it watches, without rights or without a place to write events to.
pub async fn run(
    config: Config,
    options: RunOptions,
    shutdown: impl Future<Output = String>,
) -> Result<(), RunError> {
    let (mut daemon, mut inbox) = Daemon::start(config, options).await?;
    tokio::pin!(shutdown);
    // After each turn of the sensors, the other branches and the runtime's other tasks have one: records that come faster
    // than they are taken in must hold up neither probes nor restarts.
    let mut others_have_a_turn = false;
    let why = loop {
        daemon.execute_effects();
        daemon.notify_watchdog();
        let (due, held_events) = (daemon.due(), daemon.held_events());
        tokio::select! {
            biased;
            why = &mut shutdown => break why,
            () = held_events => daemon.release_events(),
            () = daemon.sensors_readable(), if !others_have_a_turn => {
                daemon.drain_sensors();
                others_have_a_turn = true;
                continue;
            }
            Some(change) = inbox.units.recv() => daemon.on_unit(change.service, Ok(change.state)),
            Some(report) = inbox.supervisor.recv() => daemon.on_supervisor_report(report),
            Some(outcome) = inbox.outcomes.recv() => daemon.on_outcome(outcome),
            Some(answer) = inbox.answers.recv() => daemon.on_answer(answer),
            Some(report) = inbox.probes.recv() => daemon.on_probe(report),
            Some(silence) = inbox.silences.recv() => daemon.on_silence(silence),
            Some(outcome) = inbox.alerts.recv() => daemon.on_alert(outcome),
            Some(run) = inbox.hooks.recv() => daemon.on_hook_run(run),
            _ = inbox.every_second.tick() => daemon.every_second(),
            Some(()) = inbox.hangups.recv() => daemon.reload(),
            Some(request) = inbox.operations.recv() => daemon.on_operator_request(request),
            Some(request) = inbox.drills.recv() => daemon.on_drill_request(request),
            Some(request) = inbox.alert_tests.recv() => daemon.on_alert_test_request(request),
            Some(answer) = inbox.reloads.recv() => daemon.on_reload_request(answer),
            () = due => daemon.tick(),
            () = tokio::task::yield_now(), if others_have_a_turn => {}
        }
        others_have_a_turn = false;
    };
    daemon.stop(why).await;
    Ok(())
}
