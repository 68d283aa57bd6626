//! What happens in a run: a function of its seed alone.

use std::{fmt, time::Duration};

use super::{
    fault::{Fault, KINDS},
    services::{SERVICES, Spec},
};
use crate::survival::random::Random;

/// Faults of a round, each in another group of services that depend on each other.
const FAULTS: usize = 3;

/// The last moment at which a fault of a round begins.
const SPREAD: Duration = Duration::from_millis(1500);

/// What is wrong around the services and the daemon during a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Surroundings {
    Calm,
    /// The disk of the state directory is full.
    DiskFull,
    /// The daemon has no descriptors left for its probes.
    NoDescriptors,
    /// Half-sent requests take the daemon's page.
    PageFlooded,
    /// Clients of the page and of the control socket that never read.
    MuteClients,
    /// Listeners that come and go, and refused connections.
    SocketsFlooded,
    /// Another user's processes that fork, exit and execute.
    Forks,
    /// The daemon is stopped while processes die: the kernel's rings overrun.
    RingsOverrun,
    /// No receiver of alerts takes any.
    ReceiversFail,
    /// The NATS server of the fleet is down.
    NatsDown,
    /// All CPUs are busy.
    Starved,
}

const SURROUNDINGS: [Surroundings; 16] = [
    Surroundings::Calm,
    Surroundings::Calm,
    Surroundings::Calm,
    Surroundings::Calm,
    Surroundings::ReceiversFail,
    Surroundings::ReceiversFail,
    Surroundings::NatsDown,
    Surroundings::NatsDown,
    Surroundings::DiskFull,
    Surroundings::NoDescriptors,
    Surroundings::PageFlooded,
    Surroundings::MuteClients,
    Surroundings::SocketsFlooded,
    Surroundings::Forks,
    Surroundings::RingsOverrun,
    Surroundings::Starved,
];

impl Surroundings {
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::DiskFull => "the disk of the state is full",
            Self::NoDescriptors => "the daemon has no descriptors",
            Self::PageFlooded => "half-sent requests",
            Self::MuteClients => "clients that do not read",
            Self::SocketsFlooded => "floods of sockets",
            Self::Forks => "a storm of forks",
            Self::RingsOverrun => "the kernel's rings overrun",
            Self::ReceiversFail => "receivers of alerts fail",
            Self::NatsDown => "NATS is down",
            Self::Starved => "all CPUs are busy",
        }
    }

    /// Whether the daemon may end meanwhile. What a full disk has not taken is lost with the daemon, as `docs/survival.md` says,
    /// and the other three are done to one process.
    fn lets_it_end(self) -> bool {
        match self {
            Self::Calm
            | Self::SocketsFlooded
            | Self::Forks
            | Self::ReceiversFail
            | Self::NatsDown
            | Self::Starved => true,
            Self::DiskFull
            | Self::NoDescriptors
            | Self::RingsOverrun
            | Self::PageFlooded
            | Self::MuteClients => false,
        }
    }

    /// Whether probes go on, so that what only they can find is found.
    fn has_probes(self) -> bool {
        self != Self::NoDescriptors
    }
}

/// How a life of the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonEnd {
    Killed,
    /// By SIGTERM, and another daemon takes over, as in an upgrade.
    Upgraded,
}

/// The end of a life of the daemon, and what the next one finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub how: DaemonEnd,
    /// From the beginning of the round.
    pub at: Duration,
    /// For how long there is no daemon.
    pub gap: Duration,
    /// By how many seconds the next one's clocks since boot are ahead of the host's: it runs in a time namespace.
    pub ahead: i64,
}

/// The shifts of the clocks. The host has run for longer than the least of them.
const AHEAD: [i64; 6] = [0, 0, 0, 0, 86_400, -60];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub service: &'static Spec,
    pub fault: Fault,
    /// From the beginning of the round.
    pub at: Duration,
}

/// What happens until all is well again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub number: u32,
    pub surroundings: Surroundings,
    /// In the order of their times.
    pub faults: Vec<Planned>,
    pub end: Option<Ending>,
}

impl Round {
    /// A round of a run, from 0.
    pub fn of(seed: u64, number: u32) -> Self {
        let mut random = Random::of(seed, number.into());
        let surroundings = drawn(&SURROUNDINGS, seed, 1, number as usize);
        let end = (surroundings.lets_it_end() && random.below(3) == 0).then(|| {
            let how = if random.below(2) == 0 { DaemonEnd::Killed } else { DaemonEnd::Upgraded };
            let (at, gap) = (SPREAD.mul_f64(random.share()), Duration::from_secs(1).mul_f64(random.share()));
            Ending { how, at, gap, ahead: AHEAD[random.below(AHEAD.len())] }
        });
        let mut faults: Vec<Planned> = Vec::new();
        for nth in 0..FAULTS {
            let kind = drawn(
                &std::array::from_fn::<_, { KINDS.len() }, _>(|at| at),
                seed,
                2,
                number as usize * FAULTS + nth,
            );
            let kind = &KINDS[kind];
            let found_by_probes = !matches!(kind.verdicts, ["killed" | "crashed" | "exited" | "oom_killed"]);
            if found_by_probes && !surroundings.has_probes() {
                continue;
            }
            let free = |spec: &&Spec| {
                kind.roles.contains(&spec.role)
                    && faults.iter().all(|other| other.service.group != spec.group)
            };
            let candidates: Vec<&'static Spec> = SERVICES.iter().filter(free).collect();
            let at = SPREAD.mul_f64(random.share());
            let choice = random.below(candidates.len().max(1));
            if let Some(service) = candidates.get(choice) {
                faults.push(Planned { service, fault: kind.fault, at });
            }
        }
        faults.sort_by_key(|planned| planned.at);
        Self { number, surroundings, faults, end }
    }
}

/// The nth of things in a random order, which has each of them once before it has one again.
fn drawn<T: Copy>(things: &[T], seed: u64, stream: u64, nth: usize) -> T {
    let mut random = Random::of(seed ^ stream << 32, (nth / things.len()) as u64);
    let mut order: Vec<T> = things.to_vec();
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at + 1));
    }
    order[nth % things.len()]
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}: {}", self.number, self.surroundings.name())?;
        for Planned { service, fault, at } in &self.faults {
            write!(f, "; {} ms {}: {}", at.as_millis(), service.name, fault.kind().name)?;
        }
        if let Some(Ending { how, at, gap, ahead }) = self.end {
            let how = match how {
                DaemonEnd::Killed => "killed",
                DaemonEnd::Upgraded => "upgraded",
            };
            write!(f, "; {} ms: the daemon is {how}, {} ms without", at.as_millis(), gap.as_millis())?;
            if ahead != 0 {
                write!(f, ", the next one's clocks {ahead} s ahead")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_plan_depends_on_its_seed_alone() {
        let plan = |seed| (0..100).map(|number| Round::of(seed, number)).collect::<Vec<_>>();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn a_short_run_has_every_surrounding_and_every_fault() {
        let rounds: Vec<Round> = (0..32).map(|number| Round::of(1, number)).collect();
        let surroundings: BTreeSet<Surroundings> = rounds.iter().map(|round| round.surroundings).collect();
        assert_eq!(surroundings, BTreeSet::from(SURROUNDINGS));
        let faults: BTreeSet<Fault> = rounds.iter().flat_map(|it| &it.faults).map(|it| it.fault).collect();
        assert_eq!(faults, KINDS.iter().map(|kind| kind.fault).collect());
        assert!(rounds.iter().any(|round| round.end.is_some()));
    }

    #[test]
    fn faults_of_a_round_are_in_groups_of_their_own() {
        for round in (0..200).map(|number| Round::of(3, number)) {
            let groups: BTreeSet<&str> = round.faults.iter().map(|planned| planned.service.group).collect();
            assert_eq!(groups.len(), round.faults.len(), "{round}");
        }
    }
}
