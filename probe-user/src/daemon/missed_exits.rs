//! Main processes whose exit no sensor reported: the very record may have been lost.
//!
//! So the daemon checks the main processes after such a loss, and every half minute. The exit of a process that does not run
//! may be reported in a moment. If it is still a main process a second later, its exit was missed.

use std::time::Duration;

use crate::{clock::Timestamp, fact::ProcessKey, sensor::loss::Loss};

/// Without a loss, the main processes are checked this often.
const INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct MissedExits {
    checked: Timestamp,
    lost: bool,
    suspects: Vec<ProcessKey>,
}

impl MissedExits {
    /// Records were lost. If the exit of a main process may be among them, the next round checks.
    pub fn on_loss(&mut self, loss: &Loss) {
        self.lost |= loss.may_hide_main_exit();
    }

    /// One round, after all records were handled. Returns those of these main processes that did not run in the last round
    /// either.
    pub fn round(
        &mut self,
        mains: &[ProcessKey],
        runs: impl Fn(ProcessKey) -> bool,
        now: Timestamp,
    ) -> Vec<ProcessKey> {
        let mut ended = std::mem::take(&mut self.suspects);
        ended.retain(|suspect| mains.contains(suspect) && !runs(*suspect));
        if self.lost || now.since(self.checked) >= INTERVAL {
            (self.checked, self.lost) = (now, false);
            self.suspects =
                mains.iter().copied().filter(|main| !ended.contains(main) && !runs(*main)).collect();
        }
        ended
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
    fn an_exit_that_no_sensor_reported_is_found_a_round_after_the_loss() {
        let mut missed = MissedExits::default();
        let (mains, dead) = ([key(1), key(2)], |main: ProcessKey| main.pid != 2);
        assert_eq!(missed.round(&mains, |_| true, at(100)), []);
        // No exit is among these losses.
        missed.on_loss(&Loss { place: LossPlace::Hook(Hook::Exec), ..MISSED });
        missed.on_loss(&Loss { class: LossClass::ExitUnwatched, place: LossPlace::UrgentRing, count: 1 });
        assert_eq!(missed.round(&mains, dead, at(101)), []);
        assert_eq!(missed.round(&mains, dead, at(102)), []);
        missed.on_loss(&MISSED);
        assert_eq!(missed.round(&mains, dead, at(103)), [], "it may be reported in a moment");
        assert_eq!(missed.round(&mains, dead, at(104)), [key(2)]);
        assert_eq!(missed.round(&mains, dead, at(105)), [], "once");
    }

    #[test]
    fn an_exit_that_is_reported_meanwhile_is_not_reported_again() {
        let mut missed = MissedExits::default();
        missed.on_loss(&Loss { class: LossClass::ExitWatched, place: LossPlace::UrgentRing, count: 1 });
        assert_eq!(missed.round(&[key(1)], |_| false, at(100)), []);
        assert_eq!(missed.round(&[], |_| false, at(101)), []);
        // Another process with the same pid.
        let next = ProcessKey::new(1, at(100));
        missed.on_loss(&Loss {
            class: LossClass::ExitConnector,
            place: LossPlace::ProcessConnector,
            count: 1,
        });
        assert_eq!(missed.round(&[key(1)], |_| false, at(102)), []);
        assert_eq!(missed.round(&[next], |_| true, at(103)), []);
    }

    #[test]
    fn without_a_loss_there_is_a_check_every_half_minute() {
        let mut missed = MissedExits::default();
        assert_eq!(missed.round(&[key(1)], |_| true, at(100)), []);
        for second in 101..=130 {
            assert_eq!(missed.round(&[key(1)], |_| false, at(second)), []);
        }
        assert_eq!(missed.round(&[key(1)], |_| false, at(131)), [key(1)]);
    }
}
