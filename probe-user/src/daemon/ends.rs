//! Ends of main processes that nobody told of: what the kernel had to throw away may have been the very record that
//! counts.
//!
//! So the main processes are looked at after such a loss, and now and then in any case. Who does not run then may be told
//! of in a moment; who is still thought to be the main process a round later was lost.

use std::time::Duration;

use super::Daemon;
use crate::{
    clock::Timestamp,
    fact::{ExitStatus, Membership, ProcessKey},
    sensor::loss::Loss,
};

/// Without a loss, the main processes are looked at this often.
const INTERVAL: Duration = Duration::from_secs(30);

/// Which main processes may have ended without a word.
#[derive(Debug, Default)]
pub struct Ends {
    looked: Timestamp,
    lost: bool,
    suspects: Vec<ProcessKey>,
}

impl Ends {
    /// Something was lost; if it may have been the end of a main process, the next round looks.
    pub fn lost(&mut self, loss: &Loss) {
        self.lost |= loss.may_hide_main_exit();
    }

    /// One round, after everything that was told is taken in: those of these main processes that did not run a round ago
    /// either.
    fn round(
        &mut self,
        mains: &[ProcessKey],
        runs: impl Fn(ProcessKey) -> bool,
        now: Timestamp,
    ) -> Vec<ProcessKey> {
        let mut ended = std::mem::take(&mut self.suspects);
        ended.retain(|suspect| mains.contains(suspect) && !runs(*suspect));
        if self.lost || now.since(self.looked) >= INTERVAL {
            (self.looked, self.lost) = (now, false);
            self.suspects =
                mains.iter().copied().filter(|main| !ended.contains(main) && !runs(*main)).collect();
        }
        ended
    }
}

impl Daemon {
    /// Takes main processes that do not run any more, and of whose end nobody told, for dead. Meant to be called about once
    /// a second, after what was told.
    pub(super) fn take_lost_ends(&mut self) {
        let now = Timestamp::now();
        let mains = self.enricher.members.mains().into_iter().map(|(_, main)| main);
        // The supervisor reads how its own commands ended.
        let mains: Vec<_> = mains.filter(|main| !self.is_supervised(*main)).collect();
        let ended = self.ends.round(&mains, |main| self.enricher.lives(main), now);
        for main in ended {
            // One process may be the main one of several services; its end is told once.
            let Some(&service) = self.enricher.members.services_of(main).first() else { continue };
            tracing::warn!(pid = main.pid, "a main process has ended, and nobody told");
            let exit = self.enricher.ended(main, 0, ExitStatus::Unknown, now);
            self.on_process_exit(exit, Some(Membership { service, main: true }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::{
        ebpf::Hook,
        loss::{LossClass, LossPlace},
    };

    const MISSED: Loss = Loss { class: LossClass::Missed, place: LossPlace::Hook(Hook::Exit), count: 1 };

    fn at(second: u64) -> Timestamp {
        Timestamp::from_nanos(second * 1_000_000_000)
    }

    fn key(pid: u32) -> ProcessKey {
        ProcessKey::new(pid, at(1))
    }

    #[test]
    fn an_end_that_nobody_told_is_found_a_round_after_the_loss() {
        let mut ends = Ends::default();
        let (mains, dead) = ([key(1), key(2)], |main: ProcessKey| main.pid != 2);
        assert_eq!(ends.round(&mains, |_| true, at(100)), []);
        // What is lost here says nothing of ends.
        ends.lost(&Loss { place: LossPlace::Hook(Hook::Exec), ..MISSED });
        ends.lost(&Loss { class: LossClass::ExitUnwatched, place: LossPlace::UrgentRing, count: 1 });
        assert_eq!(ends.round(&mains, dead, at(101)), []);
        assert_eq!(ends.round(&mains, dead, at(102)), []);
        ends.lost(&MISSED);
        assert_eq!(ends.round(&mains, dead, at(103)), [], "it may be told in a moment");
        assert_eq!(ends.round(&mains, dead, at(104)), [key(2)]);
        assert_eq!(ends.round(&mains, dead, at(105)), [], "once");
    }

    #[test]
    fn an_end_that_is_told_meanwhile_is_not_told_again() {
        let mut ends = Ends::default();
        ends.lost(&Loss { class: LossClass::ExitWatched, place: LossPlace::UrgentRing, count: 1 });
        assert_eq!(ends.round(&[key(1)], |_| false, at(100)), []);
        assert_eq!(ends.round(&[], |_| false, at(101)), []);
        // The same process again, by its pid alone.
        let next = ProcessKey::new(1, at(100));
        ends.lost(&Loss { class: LossClass::ExitConnector, place: LossPlace::ProcessConnector, count: 1 });
        assert_eq!(ends.round(&[key(1)], |_| false, at(102)), []);
        assert_eq!(ends.round(&[next], |_| true, at(103)), []);
    }

    #[test]
    fn without_a_loss_there_is_a_look_every_half_minute() {
        let mut ends = Ends::default();
        assert_eq!(ends.round(&[key(1)], |_| true, at(100)), []);
        for second in 101..=130 {
            assert_eq!(ends.round(&[key(1)], |_| false, at(second)), []);
        }
        assert_eq!(ends.round(&[key(1)], |_| false, at(131)), [key(1)]);
    }
}
