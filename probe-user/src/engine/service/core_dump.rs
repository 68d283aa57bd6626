//! A main process that writes its core dump: it has crashed, and its exit may be minutes away.

use std::time::Duration;

use super::model::{Fault, RecoveryState, Service};
use crate::{
    engine::{ctx::Ctx, effect::Effects, verdict},
    fact::{CoreSignal, Verdict},
};

/// The delay from the signal to the check whether the process writes its dump. Most dumps are complete by then.
const DUMP_BEGINS: Duration = Duration::from_millis(50);

impl Service {
    /// A signal ends the main process with a core dump. The engine checks whether it takes long.
    pub(super) fn on_core_signal<E: Effects>(&mut self, signal: CoreSignal, ctx: &mut Ctx<'_, E>) {
        if self.main == Some(signal.process) {
            self.generation.liveness.set_core_signal(signal);
            self.generation.liveness.forget_request();
            self.examine(DUMP_BEGINS, None, ctx);
        }
    }

    /// Whether the main process writes its core dump, or has written it and its exit is not known yet.
    pub(super) fn main_dumps_core(&self) -> bool {
        let dumping = self.generation.liveness.core_dump();
        dumping.is_some() && dumping == self.main.map(|main| main.pid)
    }

    /// The main process writes its core dump. The kernel says so, so no row of failures is needed.
    pub(super) fn on_core_dump<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let free = matches!(self.recovery.state(), RecoveryState::Idle | RecoveryState::Verifying);
        let known = self.has_verdict(Verdict::Crashed) && !self.is_verifying();
        let Some(main) = self.main.filter(|_| free && !known) else { return };
        let signal = self.generation.liveness.core_signal();
        let since = signal.map(|signal| signal.at).or_else(|| self.failing_since()).unwrap_or(ctx.now);
        let evidence = self.probes.iter_mut().flat_map(|probe| probe.take_evidence()).collect();
        let (finding, remedy) = verdict::of_core_dump(main.pid, signal.map(|signal| signal.signal));
        self.enter(RecoveryState::Idle, None);
        self.fail_alive(Fault { since, evidence, remedy, ..Fault::now(ctx.now, finding) }, ctx);
    }
}
