//! A connection to the bus, and the calls over it.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use serde::Serialize;
use tokio::{sync::OnceCell, task::JoinHandle, time::timeout};
use zbus::{
    Connection, DynamicType, MatchRule, Message, MessageStream, connection::Builder, fdo, message::Type,
};

use super::{
    cgroup::Hierarchy,
    error::SystemdError,
    namespace::Manager,
    state::{self, Properties},
};
use crate::fact::{NeededUnit, UnitJob, UnitState};

/// How long systemd may take for one answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Keeps the subscription to the ends of jobs; dropping it ends the subscription.
#[derive(Debug)]
struct JobSignals(JoinHandle<()>);

impl Drop for JobSignals {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What systemd is to do with a unit.
#[derive(Clone, Copy, Debug)]
pub(super) enum JobKind {
    Restart,
    Stop,
}

impl JobKind {
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Restart => "RestartUnit",
            Self::Stop => "StopUnit",
        }
    }
}

/// A connection to a systemd.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    manager: Arc<Manager>,
    hierarchy: Arc<Option<Hierarchy>>,
    /// The units that systemd keeps in memory for this connection.
    kept: Arc<Mutex<HashSet<String>>>,
    /// The subscription to the ends of jobs.
    job_signals: Arc<OnceCell<JobSignals>>,
}

impl Link {
    /// Connects to a bus (None: the system bus) that systemd is on.
    pub(super) async fn open(address: Option<&str>) -> Result<Self, SystemdError> {
        let name = || address.map_or_else(system_bus, str::to_owned);
        let builder = address.map_or_else(Builder::system, Builder::address).method_timeout(PATIENCE);
        let connection = match timeout(PATIENCE, builder.build()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(source)) => return Err(SystemdError::Connect { address: name(), source }),
            Err(_) => {
                return Err(SystemdError::Timeout {
                    call: format!("connecting to {}", name()),
                    after: PATIENCE,
                });
            }
        };
        let peer = connection.peer_creds().await.ok().and_then(|peer| peer.process_id());
        let proc = Path::new("/proc");
        let manager = Manager::behind(peer, proc).map_err(|_| SystemdError::Hidden { address: name() })?;
        let hierarchy = Hierarchy::of(manager.pid, proc);
        let (manager, hierarchy) = (Arc::new(manager), Arc::new(hierarchy));
        let link = Self { connection, manager, hierarchy, kept: Arc::default(), job_signals: Arc::default() };
        // This asks the bus first, because a call to a missing systemd would make the bus try to start it.
        let owned: bool =
            link.ask(BUS, BUS_PATH, BUS, "NameHasOwner", &SYSTEMD, || "NameHasOwner".into()).await?;
        if owned { Ok(link) } else { Err(SystemdError::NoManager { address: name() }) }
    }

    pub(super) fn manager_pid(&self) -> u32 {
        self.manager.pid
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    pub(super) async fn unit_state(&self, unit: &str) -> Result<UnitState, SystemdError> {
        let path = state::object_path(unit);
        let mut last = false;
        loop {
            // An empty interface name means all interfaces, read at one moment. Two reads, of the Unit and the
            // Service interface, can disagree: active in one, no main process in the other.
            let answer =
                self.call(SYSTEMD, &path, PROPERTIES, "GetAll", &"", || format!("reading {unit}")).await?;
            let body = answer.body();
            let properties: Properties<'_> = body
                .deserialize()
                .map_err(|source| SystemdError::Call { call: format!("reading {unit}"), source })?;
            let job = match state::job(&properties) {
                None => None,
                Some((id, path)) => match self.job_kind(path.as_str(), unit).await {
                    Ok(Some(kind)) => Some(UnitJob { id, kind }),
                    // The job ended in between, so the state is out of date.
                    Ok(None) if !last => {
                        last = true;
                        continue;
                    }
                    Ok(None) => None,
                    Err(error) => return Err(error),
                },
            };
            let mut state = state::read(unit, &properties, job, &self.manager, (*self.hierarchy).as_ref())?;
            if state.load == "loaded" {
                self.keep(&state.id).await;
            }
            let stops = state.job.as_ref().is_some_and(|job| job.kind != "start");
            if stops || matches!(state.active.as_str(), "inactive" | "deactivating") || state.left_first() {
                state.needs = self.needs(state::needs(&properties)).await;
            }
            if state.active == "inactive"
                && let Some(name) = state::bus_name(&properties)
                && self.activates(&name).await
            {
                state.triggered_by.push(name);
            }
            return Ok(state);
        }
    }

    /// Whether the bus has a service started when its name is called.
    async fn activates(&self, name: &str) -> bool {
        let call = || "ListActivatableNames".into();
        let names = self.ask::<_, Vec<String>>(BUS, BUS_PATH, BUS, "ListActivatableNames", &(), call).await;
        names.is_ok_and(|names| names.iter().any(|known| known == name))
    }

    /// The states of the units that a unit needs. One that cannot be read says nothing.
    async fn needs(&self, units: Vec<(String, &'static str)>) -> Vec<NeededUnit> {
        let read = units.into_iter().map(async |(unit, relation)| {
            let call = || format!("reading {unit}");
            let answer =
                self.call(SYSTEMD, &state::object_path(&unit), PROPERTIES, "GetAll", &"", call).await;
            let body = answer.ok()?.body();
            let properties: Properties<'_> = body.deserialize().ok()?;
            Some(state::needed(unit, relation, &properties))
        });
        futures_util::future::join_all(read).await.into_iter().flatten().collect()
    }

    /// Makes systemd keep a unit in memory while this connection lasts.
    ///
    /// systemd unloads an inactive unit that did not fail as soon as it can, and forgets its invocation and when
    /// and why it ended. An exit with code 0 then looks like a requested stop.
    async fn keep(&self, unit: &str) {
        let new = self.kept.lock().is_ok_and(|mut kept| kept.insert(unit.to_owned()));
        if !new {
            return;
        }
        let call = || format!("RefUnit({unit})");
        if let Err(error) = self.call(SYSTEMD, MANAGER_PATH, MANAGER, "RefUnit", &unit, call).await {
            tracing::debug!(
                "{unit}: cannot keep the unit loaded, so systemd may forget how it ended: {error}"
            );
        }
        // The unit may be restarted soon.
        if let Err(error) = self.keep_job_signals().await {
            tracing::debug!("{unit}: cannot subscribe to the ends of jobs yet: {error}");
        }
    }

    /// The kind of a job; None if the job is gone.
    async fn job_kind(&self, path: &str, unit: &str) -> Result<Option<String>, SystemdError> {
        let what = ("org.freedesktop.systemd1.Job", "JobType");
        let answer = timeout(
            PATIENCE,
            self.connection.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &what),
        )
        .await;
        let call = || format!("reading the job of {unit}");
        match answer {
            Ok(Ok(answer)) => {
                let kind: zbus::OwnedVariant = answer
                    .body()
                    .deserialize()
                    .map_err(|source| SystemdError::Call { call: call(), source })?;
                Ok(String::try_from(kind).ok())
            }
            Ok(Err(zbus::Error::FDO(error))) if matches!(*error, fdo::Error::UnknownObject(_)) => Ok(None),
            Ok(Err(error)) => Err(SystemdError::of_call(call(), error)),
            Err(_) => Err(SystemdError::Timeout { call: call(), after: PATIENCE }),
        }
    }

    /// Requests a job for a unit; the job's object path.
    pub(super) async fn enqueue(&self, kind: JobKind, unit: &str) -> Result<String, SystemdError> {
        let method = kind.method();
        let call = || format!("{method}({unit})");
        let job: zbus::OwnedObjectPath =
            self.ask(SYSTEMD, MANAGER_PATH, MANAGER, method, &(unit, "replace"), call).await?;
        Ok(job.to_string())
    }

    pub(super) async fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        let call = || format!("ResetFailedUnit({unit})");
        self.call(SYSTEMD, MANAGER_PATH, MANAGER, "ResetFailedUnit", &unit, call).await.map(drop)
    }

    /// Makes systemd send signals. It sends none without a subscriber.
    pub(super) async fn subscribe(&self) -> Result<(), SystemdError> {
        match self.call(SYSTEMD, MANAGER_PATH, MANAGER, "Subscribe", &(), || "Subscribe".into()).await {
            Err(SystemdError::Call { source: zbus::Error::MethodError(name, ..), .. })
                if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" =>
            {
                Ok(())
            }
            answer => answer.map(drop),
        }
    }

    /// Makes the bus deliver the signals that match.
    pub(super) async fn add_match(&self, rule: &str) -> Result<(), SystemdError> {
        self.call(BUS, BUS_PATH, BUS, "AddMatch", &rule, || format!("AddMatch({rule})")).await.map(drop)
    }

    /// Makes the bus deliver the ends of jobs from now on, so that a restart need not wait for that.
    async fn keep_job_signals(&self) -> Result<(), SystemdError> {
        let subscribe = async {
            let mut ends = self.job_ends("subscribing to the ends of jobs").await?;
            // While a stream of these signals exists, zbus does not call AddMatch again for the stream of a
            // restart.
            Ok(JobSignals(tokio::spawn(async move { while ends.next().await.is_some() {} })))
        };
        self.job_signals.get_or_try_init(|| subscribe).await.map(drop)
    }

    pub(super) async fn job_ends(&self, call: &str) -> Result<MessageStream, SystemdError> {
        let failed = |source| SystemdError::Call { call: call.to_owned(), source };
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .interface("org.freedesktop.systemd1.Manager")
            .member("JobRemoved")
            .build()
            .map_err(failed)?;
        let listen = MessageStream::for_match_rule(rule, &self.connection, None);
        match timeout(PATIENCE, listen).await {
            Ok(ends) => ends.map_err(failed),
            Err(_) => Err(SystemdError::Timeout { call: call.to_owned(), after: PATIENCE }),
        }
    }

    async fn ask<B, T>(
        &self,
        destination: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
        call: impl Fn() -> String,
    ) -> Result<T, SystemdError>
    where
        B: Serialize + DynamicType,
        T: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let answer = self.call(destination, path, interface, method, body, &call).await?;
        answer.body().deserialize().map_err(|source| SystemdError::Call { call: call(), source })
    }

    async fn call<B>(
        &self,
        destination: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
        call: impl Fn() -> String,
    ) -> Result<Message, SystemdError>
    where
        B: Serialize + DynamicType,
    {
        // A send can block too, on a bus that does not read. The connection's own limit starts after the send.
        let answer = self.connection.call_method(Some(destination), path, Some(interface), method, body);
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(zbus::Error::InputOutput(error))) if error.kind() == std::io::ErrorKind::TimedOut => {
                Err(SystemdError::Timeout { call: call(), after: PATIENCE })
            }
            Ok(Err(error)) => Err(SystemdError::of_call(call(), error)),
            Err(_) => Err(SystemdError::Timeout { call: call(), after: PATIENCE }),
        }
    }
}

fn system_bus() -> String {
    std::env::var("DBUS_SYSTEM_BUS_ADDRESS")
        .unwrap_or_else(|_| "unix:path=/var/run/dbus/system_bus_socket".to_owned())
}
