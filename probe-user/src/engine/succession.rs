//! Whether a process that outlived its main process takes its place: one table, without state.

use crate::fact::{ExitStatus, ProcessExit, Successor, Verdict};

/// How the main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With exit code 0.
    Success,
    /// Another process asked it to end.
    Asked,
    /// Another process, or an unknown one, killed it.
    Killed,
    /// It crashed, exited with an error, or the OOM killer ended it.
    Failed,
}

impl End {
    /// `clean`: with success, or as another process asked it to.
    pub fn of(exit: &ProcessExit, clean: bool, verdict: Verdict) -> Self {
        match (exit.status, verdict) {
            (ExitStatus::Code(0), _) => Self::Success,
            (_, _) if clean => Self::Asked,
            (_, Verdict::Killed) => Self::Killed,
            (_, _) => Self::Failed,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The successor of an upgrade in place. It becomes the main process, without an incident.
    Upgraded,
    /// It was left alone and works. It becomes the main process, and an incident says so.
    Left,
    /// It is a worker or a helper, and the service needs a restart.
    Unfit,
}

/// Properties of a process that outlived its main process, of that one, and of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(u16);

impl Traits {
    /// It listens for the clients of the service.
    pub const SERVES: Self = Self(1);
    /// It executed a program after its fork. The workers of most servers only fork.
    pub const EXECUTED: Self = Self(1 << 1);
    /// A child of its own listens as well, as the workers of a main process do.
    pub const LEADS: Self = Self(1 << 2);
    /// It is the only one of its kind. Workers that execute a program mostly have siblings or helpers beside them.
    pub const SOLE: Self = Self(1 << 3);
    /// It started when the service was at work already. Workers start with their main process.
    pub const LATER: Self = Self(1 << 4);
    /// It executes the program of the main process, or the main process itself listened. A wrapper does neither.
    pub const PEER: Self = Self(1 << 5);
    /// It is no [`Self::PEER`].
    pub const WRAPPED: Self = Self(1 << 6);
    /// The service was healthy.
    pub const HEALTHY: Self = Self(1 << 7);
    /// The service was healthy, or had been at work for longer than a start takes.
    pub const AT_WORK: Self = Self(1 << 8);
    /// As far as is known, the main process served no clients, so its successor needs no listener.
    pub const PORTLESS: Self = Self(1 << 9);

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn when(self, holds: bool) -> Self {
        if holds { self } else { Self(0) }
    }

    pub const fn has(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }
}

/// The first row that fits decides. A process that fits none is unfit.
#[rustfmt::skip] // A table reads best as one.
const ROWS: [(&[End], &[Traits], Judgement); 13] = {
    use End::{Asked, Failed, Killed, Success};
    use Judgement::{Left, Upgraded};
    type T = Traits;
    [
        // It ran beside a main process that had finished its work.
        (&[Success],               &[T::SERVES, T::EXECUTED, T::PEER, T::AT_WORK],         Upgraded),
        // The main process passed its listener on, perhaps over a fork alone.
        (&[Success, Asked],        &[T::SERVES, T::SOLE, T::LATER, T::PEER, T::HEALTHY],   Upgraded),
        // A second main process with workers of its own. An operator ends the first one, by force if need be.
        (&[Asked, Killed],         &[T::SERVES, T::EXECUTED, T::LEADS, T::PEER],           Upgraded),
        (&[Asked, Killed],         &[T::SERVES, T::LEADS, T::SOLE, T::LATER, T::PEER],     Upgraded),
        // A program without clients replaced itself.
        (&[Success],               &[T::PORTLESS, T::EXECUTED, T::SOLE, T::LATER, T::PEER], Upgraded),
        // A command put its daemon into the background, at once or after a long start.
        (&[Success],               &[T::SERVES],                                           Left),
        (&[Success],               &[T::PORTLESS, T::EXECUTED],                            Left),
        (&[Success],               &[T::PORTLESS, T::SOLE],                                Left),
        // A fork of it serves, and has no siblings as workers have.
        (&[Asked],                 &[T::SERVES, T::SOLE],                                  Left),
        // The crash of the former main process during an upgrade.
        (&[Failed],                &[T::SERVES, T::EXECUTED, T::LEADS, T::HEALTHY],        Left),
        (&[Asked, Killed],         &[T::SERVES, T::EXECUTED, T::LEADS, T::HEALTHY],        Left),
        // A wrapper ended, and the server that it started is well.
        (&[Killed, Failed],        &[T::SERVES, T::EXECUTED, T::SOLE, T::WRAPPED, T::HEALTHY], Left),
        (&[Killed, Failed],        &[T::SERVES, T::EXECUTED, T::SOLE, T::LATER, T::HEALTHY],   Left),
    ]
};

pub fn judge(end: End, traits: Traits) -> Judgement {
    let fits = |needs: &[Traits]| needs.iter().all(|need| traits.has(*need));
    let row = ROWS.iter().find(|(ends, needs, _)| ends.contains(&end) && fits(needs));
    row.map_or(Judgement::Unfit, |(_, _, judgement)| *judgement)
}

/// Whether a process executes the program of a former one, of which the executable and the name are known. The
/// executable of a script is the script as it was executed.
pub fn is_same_program(former: (Option<&str>, &str), found: &Successor) -> bool {
    /// `TASK_COMM_LEN` without its end.
    const NAME_MAX: usize = 15;
    let (executable, name) = former;
    let is_former = |path: &String| {
        let file = path.rsplit('/').next().unwrap_or_default();
        executable == Some(path.as_str()) || !name.is_empty() && file.get(..NAME_MAX).unwrap_or(file) == name
    };
    found.name == name || found.programs.iter().any(is_former)
}

#[cfg(test)]
mod tests {
    use super::{Traits as T, *};
    use crate::{clock::Timestamp, fact::ProcessKey};

    fn traits(all: &[T]) -> T {
        all.iter().fold(T::default(), |sum, one| sum.and(*one))
    }

    #[test]
    fn workers_never_replace_their_main_process() {
        // Those that execute a program, those of a fork, and a single one.
        let spawned = traits(&[T::SERVES, T::EXECUTED, T::PEER, T::HEALTHY, T::AT_WORK]);
        let forked = traits(&[T::SERVES, T::PEER, T::HEALTHY, T::AT_WORK]);
        for end in [End::Killed, End::Failed] {
            for worker in [spawned, forked, spawned.and(T::SOLE), forked.and(T::SOLE), spawned.and(T::LATER)]
            {
                assert_eq!(judge(end, worker), Judgement::Unfit, "{end:?} {worker:?}");
            }
        }
        assert_eq!(judge(End::Asked, forked), Judgement::Unfit);
    }

    #[test]
    fn only_a_second_main_process_replaces_a_killed_one_in_silence() {
        let second = traits(&[T::SERVES, T::EXECUTED, T::LEADS, T::PEER, T::HEALTHY]);
        assert_eq!(judge(End::Killed, second), Judgement::Upgraded);
        assert_eq!(judge(End::Failed, second), Judgement::Left);
        let wrapped = traits(&[T::SERVES, T::EXECUTED, T::SOLE, T::WRAPPED, T::HEALTHY]);
        assert_eq!(judge(End::Killed, wrapped), Judgement::Left);
        assert_eq!(judge(End::Killed, wrapped.and(T::LEADS)), Judgement::Left);
        let broken = traits(&[T::SERVES, T::EXECUTED, T::SOLE, T::WRAPPED]);
        assert_eq!(judge(End::Killed, broken), Judgement::Unfit);
    }

    #[test]
    fn a_script_is_the_same_program_as_its_interpreter_with_its_path() {
        let found = |name: &str, programs: &[&str]| Successor {
            process: ProcessKey { pid: 7, start: Timestamp::from_nanos(1) },
            name: name.into(),
            executed: true,
            listens: true,
            listens_elsewhere: false,
            leads: false,
            sole: true,
            programs: programs.iter().map(|path| (*path).to_owned()).collect(),
        };
        let gunicorn = found("python3", &["/usr/bin/python3.11", "/usr/bin/python3", "/usr/bin/gunicorn"]);
        assert!(is_same_program((Some("/usr/bin/gunicorn"), "gunicorn"), &gunicorn));
        assert!(is_same_program((None, "gunicorn"), &gunicorn));
        assert!(is_same_program((Some("/usr/bin/python3"), "x"), &gunicorn));
        let nginx = found("nginx", &["/usr/sbin/nginx"]);
        assert!(is_same_program((None, "nginx"), &nginx));
        assert!(!is_same_program((Some("/bin/dash"), "sh"), &nginx));
        assert!(!is_same_program((None, ""), &nginx));
    }
}
