//! Starts the daemon, in the order that leaves no gap: the sensors attach first, then the daemon reads the host, then
//! it starts and probes services.

mod announce;
mod attach;
mod inbox;
mod options;
mod take_over;
mod wire;

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use self::{announce::announce, attach::attach, wire::wire};
pub use self::{
    inbox::Inbox,
    options::{RunError, RunOptions},
};
use super::Daemon;
use crate::{
    act::container::add_labelled,
    clock::Timestamp,
    config::Config,
    fact::{AgentReady, Fact, Observation, RememberedWait},
    host::{ProcReader, Scanning},
    process::memory,
    sensor::ebpf::Hook,
    store::directory::{DirectoryError, StateDirectory},
};

/// From `agent.ready` until nothing of the start is under way any more.
const START_IS_OVER: Duration = Duration::from_secs(3);

/// Takes the state directory. If it cannot be used, the daemon runs without one. If another daemon has it, this one does
/// not run: the two would undo what the other does.
///
/// A daemon that records nothing, takes no commands and is in no fleet makes no directory. It reads what an earlier one left
/// there.
fn take_directory(config: &Config) -> Result<Option<StateDirectory>, RunError> {
    let state = &config.state;
    let needs_none = state.recording_bytes == 0 && config.control.is_none() && config.fleet.is_none();
    if needs_none && !state.directory.exists() {
        return Ok(None);
    }
    match StateDirectory::take(&state.directory) {
        Ok(directory) => Ok(Some(directory)),
        Err(error @ DirectoryError::InUse { .. }) => Err(RunError::State(error)),
        Err(error @ DirectoryError::Unusable { .. }) => {
            tracing::warn!("{error}");
            Ok(None)
        }
    }
}

impl Daemon {
    /// Starts the daemon in four phases: attach, announce, wire, take over.
    ///
    /// Once attached, the calling thread gives up the rights that the daemon does not go on using. It has to be the
    /// only one: others keep theirs.
    pub async fn start(config: Config, options: RunOptions) -> Result<(Self, Inbox), RunError> {
        let directory = take_directory(&config)?;
        let mut config = config;
        let mut attached = attach(&config, &options).await?;
        // Of what happens from now on, the sensors report. All threads have the rights that are left.
        let scanning = Scanning::start(attached.reader.clone());
        // The runtime keeps its first thread, which resolves names, for a time when no other can be started.
        let _ = tokio::task::spawn_blocking(|| ()).await;
        let labelled = add_labelled(&mut config, None, &attached.reader).await;
        let config = Arc::new(config);
        let announced = announce(&config, &options, directory, &mut attached).await?;
        let (reader, observe) = (attached.reader.clone(), options.observe);
        let mut ready = AgentReady {
            place: attached.place.clone(),
            coverage: attached.sensors.coverage().to_vec(),
            self_test: announced.self_test.clone(),
            services: config.services.len() as u32,
            restartable: 0,
        };
        if !observe {
            ready.restartable = config.services.iter().filter(|it| it.restart.enabled).count() as u32;
        }
        let mut wired = wire(config, options, attached, announced, scanning).await?;
        let mut daemon = wired.daemon;
        if !daemon.sensors.has(Hook::Socket) {
            daemon.observe(Observation::ConnectionsUnseen);
        }
        daemon.undo_left(&reader);
        daemon.watch_expected_ports(&reader);
        if let Some(earlier) = &wired.earlier_run {
            daemon.report_reboot(earlier, &wired.memories);
        }
        for (service, memory) in wired.memories {
            if memory.wait == Some(RememberedWait::Restart) {
                daemon.restarting.insert(service);
            }
            daemon.observe(Observation::Remembered(service, Box::new(memory)));
        }
        daemon.observe_remembered(wired.orders);
        daemon.check_maintenance();
        daemon.take_over(&mut wired.inbox).await;
        daemon.connect_to_systemd(&mut wired.inbox).await;
        daemon.connect_to_engines(&mut wired.inbox).await;
        daemon.watch_labels(labelled);
        daemon.watch_pods();
        daemon.report_ready(ready, reader);
        wired.inbox.tick_with(daemon.executor.prober.epoch());
        Ok((daemon, wired.inbox))
    }

    fn report_ready(&mut self, ready: AgentReady, reader: ProcReader) {
        self.publisher.publish(Fact::AgentReady(ready), Timestamp::now());
        self.execute_effects();
        self.notifier.status(|| self.publisher.status_line());
        self.notifier.ready();
        self.sensors.read_ahead();
        // What happens soon is compared with this. It reads all processes, which the start has to do as well.
        self.executor.inspector.memory.sample();
        tokio::spawn(async move {
            sleep(START_IS_OVER).await;
            // The threads that read ahead are done by then.
            memory::give_back();
            tokio::task::spawn_blocking(move || reader.remove_empty_cgroups());
        });
    }
}
