//! Heartbeats: jobs and timers report in, and silence is the failure.
//!
//! A beat comes over HTTP or the control socket. The probe runs as any other, asks nothing, and fails once the latest beat is too
//! old. The time counts while the host runs (`CLOCK_MONOTONIC`), because a host that sleeps runs no jobs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::failure::Failure;
use crate::{
    config::{Heartbeat, Probe, Service},
    fact::{ProbeFailure, ProbeOutcome},
};

/// After a start of the daemon, silence counts after this long at the earliest, or after `every` if that is shorter: the daemon
/// missed the beats of the time before.
const AFTER_START: Duration = Duration::from_secs(600);

/// The latest beat is kept at most once in this time.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What outlives the daemon of a heartbeat, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptBeat {
    /// When it was first waited for.
    pub since_us: i64,
    /// The latest beat.
    pub beat_us: Option<i64>,
}

/// Where beats are kept.
pub trait BeatKeeper: Send + Sync {
    /// Never waits.
    fn keep_beat(&self, name: &str, beat: KeptBeat);
}

/// Why a beat is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBeat {
    /// The configuration has no heartbeat of this name.
    Unknown,
    /// It has a token, and another one or none was given.
    WrongToken,
    /// It has no token, and the caller may be on another host.
    NeedsToken,
}

/// How a beat came.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// The kernel says that it may.
    Admitted,
    /// Over HTTP, with this token.
    Http { is_local: bool, token: Option<&'a str> },
}

/// All heartbeats that are waited for. Cheap to clone.
#[derive(Clone, Default)]
pub struct Heartbeats(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waited_for: Mutex<BTreeMap<String, State>>,
    keeper: Option<Arc<dyn BeatKeeper>>,
}

impl fmt::Debug for Heartbeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

struct State {
    kept: KeptBeat,
    /// The latest beat, or the time from which on the first one is waited for. It may be before the boot.
    silent_before: Duration,
    silent_since: Instant,
    /// How long the host was off since the latest beat. This time is no silence.
    off: Duration,
    /// Silence is no failure before this.
    not_before: Instant,
    token: Option<Token>,
    /// Asks the probe to run, which has failed.
    wake: Option<Box<dyn FnOnce() + Send>>,
    kept_at: Option<Instant>,
}

/// What an earlier run of the daemon leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Earlier<'a> {
    pub beats: Option<&'a BTreeMap<String, KeptBeat>>,
    /// How long the host was off since: no job could report in meanwhile.
    pub off: Duration,
}

/// The digest of a token: the time of a comparison tells nothing about it.
type Token = [u8; 32];

fn digest(token: &str) -> Token {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    <[u8; 32]>::try_from(digest.as_ref()).unwrap_or_default()
}

impl Heartbeats {
    /// Heartbeats that are kept there.
    pub fn new(keeper: Option<Arc<dyn BeatKeeper>>) -> Self {
        Self(Arc::new(Shared { waited_for: Mutex::default(), keeper }))
    }

    /// Waits for the heartbeats of these services from now on. Those that stay keep their latest beat.
    pub fn configure(&self, services: &[Service], earlier: Earlier<'_>) {
        let mut waited_for = self.lock();
        let mut before = std::mem::take(&mut *waited_for);
        for probe in services.iter().flat_map(|service| &service.probes) {
            let Some(heartbeat) = &probe.heartbeat else { continue };
            let token = heartbeat.token.as_ref().map(|token| digest(token.expose()));
            let name = &heartbeat.name;
            let state = match before.remove(name) {
                Some(known) => State { token, ..known },
                None => {
                    let state = State::begin(heartbeat, token, earlier);
                    self.keep(name, state.kept);
                    state
                }
            };
            waited_for.insert(name.clone(), state);
        }
    }

    /// A job reports in.
    pub fn beat(&self, name: &str, caller: Caller<'_>) -> Result<(), NoBeat> {
        let wake = {
            let mut waited_for = self.lock();
            let state = waited_for.get_mut(name).ok_or(NoBeat::Unknown)?;
            state.admits(caller)?;
            let now = Instant::now();
            (state.silent_since, state.silent_before, state.off) = (now, Duration::ZERO, Duration::ZERO);
            state.kept.beat_us = Some(now_us());
            if state.kept_at.is_none_or(|at| now.duration_since(at) >= KEEP_INTERVAL) {
                state.kept_at = Some(now);
                self.keep(name, state.kept);
            }
            state.wake.take()
        };
        if let Some(wake) = wake {
            wake();
        }
        Ok(())
    }

    fn keep(&self, name: &str, kept: KeptBeat) {
        if let Some(keeper) = &self.0.keeper {
            keeper.keep_beat(name, kept);
        }
    }

    /// It stays usable if a thread panicked: each change is whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.0.waited_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job is silent for too long; then `wake` is called at its next beat.
    fn check(&self, heartbeat: &Heartbeat, wake: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let mut waited_for = self.lock();
        let Some(state) = waited_for.get_mut(&heartbeat.name) else {
            return Err(Failure::new(ProbeFailure::CannotAsk, format!("{}: not waited for", heartbeat.name)));
        };
        let now = Instant::now();
        let silent = state.silent_before.saturating_add(now.duration_since(state.silent_since));
        if silent <= heartbeat.every.saturating_add(heartbeat.grace) || now < state.not_before {
            return Ok(());
        }
        state.wake = Some(Box::new(wake));
        let Heartbeat { name, every, grace, .. } = heartbeat;
        let expected = match grace.is_zero() {
            true => format!("expected every {every:?}"),
            false => format!("expected every {every:?}, {grace:?} late at most"),
        };
        let silent = Duration::from_secs(silent.as_secs());
        let time =
            |us: i64| jiff::Timestamp::from_microsecond(us).map_or_else(|_| "?".to_owned(), in_seconds);
        let not_counted = match state.off.as_secs() {
            0 => String::new(),
            off => format!(", not counting {:?} while the host was off", Duration::from_secs(off)),
        };
        let text = match state.kept.beat_us {
            Some(beat) => format!(
                "{name} has not reported in for {silent:?}, since {}{not_counted}; {expected}",
                time(beat)
            ),
            None => format!(
                "{name} has never reported in, and is waited for since {}{not_counted}; {expected}",
                time(state.kept.since_us)
            ),
        };
        Err(Failure::new(ProbeFailure::Silent, text))
    }
}

fn in_seconds(at: jiff::Timestamp) -> String {
    format!("{at:.0}")
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

impl State {
    fn begin(heartbeat: &Heartbeat, token: Option<Token>, earlier: Earlier<'_>) -> Self {
        let (now, now_us) = (Instant::now(), now_us());
        let kept = earlier.beats.and_then(|beats| beats.get(&heartbeat.name)).copied();
        let is_known = kept.is_some();
        let kept = kept.unwrap_or(KeptBeat { since_us: now_us, beat_us: None });
        let latest = kept.beat_us.unwrap_or(kept.since_us);
        // With a clock that was set back, it counts from now.
        let passed = Duration::from_micros(u64::try_from(now_us.saturating_sub(latest)).unwrap_or_default());
        let off = if is_known { earlier.off.min(passed) } else { Duration::ZERO };
        let silent_before = passed - off;
        let not_before = if is_known { now + heartbeat.every.min(AFTER_START) } else { now };
        Self { kept, silent_before, silent_since: now, off, not_before, token, wake: None, kept_at: None }
    }

    fn admits(&self, caller: Caller<'_>) -> Result<(), NoBeat> {
        match (caller, &self.token) {
            (Caller::Admitted, _) | (Caller::Http { is_local: true, .. }, None) => Ok(()),
            (Caller::Http { is_local: false, .. }, None) => Err(NoBeat::NeedsToken),
            (Caller::Http { token, .. }, Some(own)) => match token {
                Some(token) if digest(token) == *own => Ok(()),
                Some(_) | None => Err(NoBeat::WrongToken),
            },
        }
    }
}

/// Fails if the job is silent for too long. `wake` asks for a further run.
pub(super) fn run(
    probe: &Probe,
    heartbeats: &Heartbeats,
    wake: impl FnOnce() + Send + 'static,
) -> Result<ProbeOutcome, Failure> {
    let Some(heartbeat) = &probe.heartbeat else {
        return Err(Failure::new(ProbeFailure::CannotAsk, "the probe has no heartbeat"));
    };
    heartbeats.check(heartbeat, wake).map(|()| ProbeOutcome::Ok)
}

#[cfg(test)]
mod tests;
