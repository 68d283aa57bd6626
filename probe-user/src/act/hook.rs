//! The user's own programs, off the detection path.
//!
//! Each `[[hook]]` has a queue and a task that runs one program after the other, so a hook that hangs delays only itself.
//! [`Hooks::call`] only fills the queues. What runs before a restart has no queue, because the restart waits for it
//! ([`Hooks::before`]). A program runs in a cgroup of its own where there are cgroups, and nothing of it outlives it.

use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};

use super::program::{Program, ProgramError};
use crate::{
    config::{Hook, Service},
    emit::{self, Names, Origin, wire},
    fact::{HookCall, HookEvent, HookRun, IncidentId, ProcessKey},
    host::{Cgroups, OwnCgroup},
    spawn::RunCgroup,
};

/// The calls that may wait for one hook.
const QUEUE: usize = 64;

/// The programs that run at the same time, of all hooks that no restart waits for.
const AT_ONCE: usize = 4;

/// The incidents that a hook remembers. More are never open at once on a host that is of use.
const REMEMBERED: usize = 4096;

/// The time limit of a program under `restart.before`.
const BEFORE: Duration = Duration::from_secs(30);

/// Runs the hooks.
pub struct Hooks {
    running: Vec<Running>,
    runner: Arc<Runner>,
    lost: u64,
}

/// A hook with its task. Without the sender, the task ends after the calls that wait.
struct Running {
    hook: Hook,
    queue: mpsc::Sender<(HookCall, Vec<u8>)>,
    /// The open incidents that it ran for.
    known: BTreeSet<IncidentId>,
}

struct Runner {
    origin: Origin,
    outcomes: mpsc::Sender<HookRun>,
    cgroups: Option<(Cgroups, ProcessKey)>,
    number: AtomicU64,
    turns: Semaphore,
}

impl Hooks {
    /// Hooks whose runs are reported to `outcomes`. Their cgroups are those of the daemon `owner`.
    pub fn new(
        origin: Origin,
        outcomes: mpsc::Sender<HookRun>,
        cgroups: Option<(Cgroups, ProcessKey)>,
    ) -> Self {
        let (number, turns) = (AtomicU64::new(0), Semaphore::new(AT_ONCE));
        let runner = Arc::new(Runner { origin, outcomes, cgroups, number, turns });
        Self { running: Vec::new(), runner, lost: 0 }
    }

    /// Runs these hooks from now on. Those that stay keep what they know.
    pub fn configure(&mut self, hooks: &[Hook]) {
        let mut before = std::mem::take(&mut self.running);
        for hook in hooks {
            let same = before.iter().position(|running| running.hook == *hook);
            let running = same.map(|at| before.remove(at)).unwrap_or_else(|| {
                // A changed hook does not run again for the incidents that it ran for.
                let changed = before.iter().find(|running| running.hook.command == hook.command);
                let known = changed.map(|running| running.known.clone()).unwrap_or_default();
                Running { known, ..self.start(hook.clone()) }
            });
            self.running.push(running);
        }
    }

    fn start(&self, hook: Hook) -> Running {
        let (queue, mut calls) = mpsc::channel::<(HookCall, Vec<u8>)>(QUEUE);
        let (runner, Hook { command, timeout, .. }) = (Arc::clone(&self.runner), hook.clone());
        tokio::spawn(async move {
            while let Some((call, input)) = calls.recv().await {
                let Ok(_turn) = runner.turns.acquire().await else { return };
                let run = runner.run(&call, &command, timeout, input).await;
                let _ = runner.outcomes.send(run).await;
            }
        });
        Running { hook, queue, known: BTreeSet::new() }
    }

    /// Whether any is configured.
    pub fn has_any(&self) -> bool {
        !self.running.is_empty()
    }

    /// Queues the call for each hook that wants it. Never waits.
    pub fn call(&mut self, call: &HookCall, names: &Names) {
        let service = names.service(call.service);
        let mut input = None;
        for running in &mut self.running {
            if !running.takes(call, service) {
                continue;
            }
            let input = input.get_or_insert_with(|| self.runner.input(call, names));
            if running.queue.try_send((call.clone(), input.clone())).is_err() {
                self.lost += 1;
                running.forget(call);
            }
        }
    }

    /// Runs what is to run before a restart of this service, all of it at the same time. None if there is nothing.
    pub fn before(
        &self,
        call: HookCall,
        service: &Service,
        names: &Names,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let own = service.restart.before.iter().map(|command| (command.clone(), BEFORE));
        let wanted = self.running.iter().filter(|running| running.hook.wants(&call, &service.name));
        let of_hooks = wanted.map(|running| (running.hook.command.clone(), running.hook.timeout));
        let programs: Vec<(Vec<String>, Duration)> = own.chain(of_hooks).collect();
        if programs.is_empty() {
            return None;
        }
        let (runner, input) = (Arc::clone(&self.runner), self.runner.input(&call, names));
        Some(async move {
            let mut runs = JoinSet::new();
            for (command, time_limit) in programs {
                let (runner, call, input) = (Arc::clone(&runner), call.clone(), input.clone());
                runs.spawn(async move {
                    let run = runner.run(&call, &command, time_limit, input).await;
                    // The restart does not wait for a place among the reports.
                    tokio::spawn(async move { runner.outcomes.send(run).await });
                });
            }
            while runs.join_next().await.is_some() {}
        })
    }

    /// The calls that were lost since the last time, because a hook's queue was full.
    pub fn take_loss(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

impl Running {
    /// The call is lost: the incident has not opened for this hook.
    fn forget(&mut self, call: &HookCall) {
        if let (HookEvent::IncidentOpen, Some(incident)) = (call.event, &call.incident) {
            self.known.remove(&incident.id);
        }
    }

    /// Whether it is to run. An incident opens once for a hook, and ends for those that ran at its opening.
    fn takes(&mut self, call: &HookCall, service: &str) -> bool {
        let Some(incident) = &call.incident else { return self.hook.wants(call, service) };
        match call.event {
            HookEvent::IncidentOpen => {
                let is_new = self.hook.wants(call, service) && self.known.insert(incident.id);
                if self.known.len() > REMEMBERED {
                    self.known.pop_first();
                }
                is_new
            }
            HookEvent::IncidentResolve => {
                let has_run = self.known.remove(&incident.id);
                let opens = self.hook.on.contains(&HookEvent::IncidentOpen);
                // For which hooks it opened in an earlier run is not known.
                let by_verdict = !opens || incident.id.run.is_some();
                self.hook.on.contains(&call.event)
                    && (has_run || by_verdict && self.hook.wants(call, service))
            }
            HookEvent::RestartBefore | HookEvent::RestartAfter => self.hook.wants(call, service),
        }
    }
}

impl Runner {
    /// What a program reads: the event's fields as in the event stream.
    fn input(&self, call: &HookCall, names: &Names) -> Vec<u8> {
        let mut object = json!({
            "schema_version": wire::SCHEMA_VERSION,
            "@timestamp": format!("{:.9}", jiff::Timestamp::now()),
            "event": { "action": call.event.as_str() },
            "host": self.origin.host(),
            "agent": self.origin.agent(),
            "service": { "name": names.service(call.service) },
        });
        if let Some(unit) = names.unit(call.service) {
            object["service"]["unit"] = Value::from(unit);
        }
        if let Some(incident) = &call.incident {
            object["incident"] = json!(emit::incident(incident, &self.origin, names));
        }
        let mut line = object.to_string().into_bytes();
        line.push(b'\n');
        line
    }

    async fn run(&self, call: &HookCall, argv: &[String], time_limit: Duration, input: Vec<u8>) -> HookRun {
        let begun = Instant::now();
        let cgroup = self.cgroup().map(RunCgroup::new);
        let own = cgroup.as_ref().and_then(RunCgroup::cgroup);
        let program = Program { argv, input: Some(input), time_limit, cgroup: own };
        let (exit_code, error) = match program.run().await {
            Ok((status, _)) if status.success() => (Some(0), None),
            Ok((status, stderr)) => {
                let end = match (status.code(), status.signal()) {
                    (Some(code), _) => format!("it exited with {code}"),
                    (None, Some(signal)) => format!("it was ended by signal {signal}"),
                    (None, None) => status.to_string(),
                };
                let said = if stderr.is_empty() { end } else { format!("{end}: {stderr}") };
                (status.code(), Some(said))
            }
            Err(ProgramError::Start(error)) => (None, Some(format!("it could not be started: {error}"))),
            Err(ProgramError::Timeout) => {
                (None, Some(format!("it still ran after {time_limit:?}, so the daemon killed it")))
            }
        };
        if let Some(cgroup) = cgroup {
            cgroup.end().await;
        }
        HookRun {
            event: call.event,
            service: call.service,
            incident: call.incident.as_ref().map(|incident| incident.id),
            command: argv.first().cloned().unwrap_or_default(),
            duration: begun.elapsed(),
            exit_code,
            error,
        }
    }

    /// A cgroup for one run; none where the v2 hierarchy is not writable.
    fn cgroup(&self) -> Option<OwnCgroup> {
        let (cgroups, owner) = self.cgroups.as_ref()?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        cgroups.create_for(*owner, &format!("{}{number}", OwnCgroup::OF_HOOKS)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        emit::Name,
        fact::{Incident, ServiceId, Severity, Timing, Verdict},
    };

    fn hooks(command: &[&str], on: &[HookEvent]) -> (Hooks, mpsc::Receiver<HookRun>) {
        let origin = Origin {
            host_name: "db-1".to_owned(),
            boot_id: "0ddba11e-0000-4000-8000-000000000000".to_owned(),
            ephemeral_id: "c0ffee00".to_owned(),
        };
        let (outcomes, runs) = mpsc::channel(1000);
        let mut hooks = Hooks::new(origin, outcomes, None);
        let hook = Hook {
            on: on.to_vec(),
            verdicts: vec![Verdict::Killed],
            services: Vec::new(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: Duration::from_secs(60),
        };
        hooks.configure(&[hook]);
        (hooks, runs)
    }

    fn names() -> Names {
        Names::new([Name { service: "api".to_owned(), unit: None }])
    }

    fn call(event: HookEvent, number: u64, verdict: Verdict) -> HookCall {
        let incident = Incident {
            id: IncidentId::new(number),
            service: ServiceId(0),
            verdict,
            confidence: 1.0,
            summary: "api was killed".to_owned(),
            severity: Severity::Critical,
            cause: ServiceId(0),
            evidence: Vec::new(),
            held: Vec::new(),
            since: Default::default(),
            timing: Timing::default(),
            attempts: 0,
            snapshot: None,
            context: Default::default(),
            drill: None,
            host: None,
            earlier: Default::default(),
        };
        HookCall { event, service: ServiceId(0), incident: Some(Box::new(incident)) }
    }

    #[tokio::test]
    async fn an_incident_opens_once_for_a_hook_and_ends_only_if_it_opened() {
        let (mut hooks, mut runs) =
            hooks(&["/bin/true"], &[HookEvent::IncidentOpen, HookEvent::IncidentResolve]);
        let calls = [
            call(HookEvent::IncidentOpen, 1, Verdict::Exited),
            call(HookEvent::IncidentOpen, 1, Verdict::Killed),
            call(HookEvent::IncidentOpen, 1, Verdict::Exited),
            call(HookEvent::IncidentOpen, 1, Verdict::Killed),
            call(HookEvent::IncidentOpen, 2, Verdict::Exited),
            call(HookEvent::IncidentResolve, 1, Verdict::CrashLoop),
            call(HookEvent::IncidentResolve, 2, Verdict::Killed),
        ];
        calls.iter().for_each(|call| hooks.call(call, &names()));
        drop(hooks);
        let mut ran = Vec::new();
        while let Some(run) = runs.recv().await {
            assert_eq!((run.exit_code, &run.error), (Some(0), &None));
            ran.push((run.event, run.incident));
        }
        let first = Some(IncidentId::new(1));
        assert_eq!(ran, [(HookEvent::IncidentOpen, first), (HookEvent::IncidentResolve, first)]);
    }

    #[tokio::test]
    async fn calls_that_a_full_queue_does_not_take_are_counted() {
        let (mut hooks, _runs) = hooks(&["/bin/true"], &[HookEvent::RestartAfter]);
        for _ in 0..QUEUE + 3 {
            hooks.call(&call(HookEvent::RestartAfter, 1, Verdict::Killed), &names());
        }
        assert_eq!((hooks.take_loss(), hooks.take_loss()), (3, 0));
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_says_why() {
        let (mut hooks, mut runs) = hooks(&["/nonexistent"], &[HookEvent::RestartAfter]);
        hooks.call(&call(HookEvent::RestartAfter, 1, Verdict::Killed), &names());
        let run = runs.recv().await.unwrap();
        assert_eq!(run.exit_code, None);
        assert!(run.error.unwrap().starts_with("it could not be started: No such file"));
    }

    #[tokio::test]
    async fn a_call_that_is_lost_has_not_opened_the_incident() {
        let (mut hooks, _runs) =
            hooks(&["/bin/true"], &[HookEvent::IncidentOpen, HookEvent::IncidentResolve]);
        // Nothing takes a call out of the queue meanwhile.
        for number in 1..=QUEUE as u64 + 1 {
            hooks.call(&call(HookEvent::IncidentOpen, number, Verdict::Killed), &names());
        }
        assert_eq!(hooks.take_loss(), 1);
        let known = &hooks.running[0].known;
        assert!(!known.contains(&IncidentId::new(QUEUE as u64 + 1)) && known.len() == QUEUE);
    }
}
