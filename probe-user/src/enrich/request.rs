//! Which command line asks for the stop, the restart or the end of what: `systemctl`, callers of its bus, container
//! engines, `kill`.

use crate::fact::RequestVerb;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Names of units, which may have wildcards.
    Units(Vec<String>),
    /// Every unit: the host goes down, or to another target.
    AllUnits,
    /// Names or ids of containers.
    Containers(Vec<String>),
    /// Pids, in the pid namespace of the program that asked.
    Pids(Vec<u32>),
    /// Processes by name: in full, or as a part of the command line.
    Named { names: Vec<String>, whole: bool },
}

/// More targets than this are left out.
const TARGETS_MAX: usize = 64;

/// The endings of unit names (`systemd.unit(5)`).
const UNIT_KINDS: [&str; 11] = [
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
];

/// Reads a command line. None for one that asks for nothing of the kind, at this host's own manager.
pub fn of<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Option<(RequestVerb, Subject)> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    let rest: Vec<&str> = arguments.collect();
    match program {
        "systemctl" => systemctl(&rest),
        "reboot" | "poweroff" | "halt" | "shutdown" => Some((RequestVerb::Stop, Subject::AllUnits)),
        "busctl" | "dbus-send" | "gdbus" => bus_call(&rest),
        "docker" | "podman" | "nerdctl" | "crictl" => container(&rest),
        "kill" => kill(&rest),
        "pkill" | "killall" => named(&rest, program == "killall"),
        _ => None,
    }
}

/// Whether a program of this name (`comm`) may ask for something: what is cheap to say before a command line is read.
pub fn may_ask(name: &str) -> bool {
    matches!(
        name,
        "systemctl"
            | "reboot"
            | "poweroff"
            | "halt"
            | "shutdown"
            | "busctl"
            | "dbus-send"
            | "gdbus"
            | "docker"
            | "podman"
            | "nerdctl"
            | "crictl"
            | "kill"
            | "pkill"
            | "killall"
    )
}

/// The words that are no options, with the options. An option in `valued` takes the next word, unless it has its value
/// after `=`.
fn split<'a>(rest: &[&'a str], valued: &[&str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut words, mut options) = (Vec::new(), Vec::new());
    let mut rest = rest.iter();
    while let Some(&word) = rest.next() {
        if word == "--" {
            words.extend(rest.by_ref());
        } else if word.starts_with('-') && word.len() > 1 {
            options.push(word);
            if valued.contains(&word) {
                options.extend(rest.next());
            }
        } else {
            words.push(word);
        }
    }
    (words, options)
}

fn systemctl(rest: &[&str]) -> Option<(RequestVerb, Subject)> {
    const VALUED: [&str; 14] = [
        "-t",
        "--type",
        "-p",
        "--property",
        "-s",
        "--signal",
        "-n",
        "--lines",
        "-o",
        "--output",
        "--job-mode",
        "--kill-whom",
        "--kill-who",
        "--what",
    ];
    let (words, options) = split(rest, &VALUED);
    // Another manager than the host's own.
    let elsewhere = |option: &&str| {
        ["--user", "-H", "--host", "-M", "--machine", "--root"].contains(option)
            || ["--host=", "--machine=", "--root="].iter().any(|it| option.starts_with(it))
    };
    if options.iter().any(elsewhere) {
        return None;
    }
    let (verb, units) = words.split_first()?;
    let verb = match *verb {
        "stop" => RequestVerb::Stop,
        "disable" | "mask" if options.contains(&"--now") => RequestVerb::Stop,
        "isolate" | "rescue" | "emergency" | "default" | "halt" | "poweroff" | "reboot" | "kexec"
        | "exit" | "soft-reboot" => {
            return Some((RequestVerb::Stop, Subject::AllUnits));
        }
        "restart"
        | "try-restart"
        | "condrestart"
        | "reload-or-restart"
        | "try-reload-or-restart"
        | "force-reload" => RequestVerb::Restart,
        "kill" => RequestVerb::Kill,
        _ => return None,
    };
    let units = units.iter().take(TARGETS_MAX).map(|unit| unit_name(unit)).collect();
    Some((verb, Subject::Units(units)))
}

/// A unit's name as `systemctl` completes it.
fn unit_name(word: &str) -> String {
    let is_whole = UNIT_KINDS.iter().any(|kind| word.ends_with(kind));
    if is_whole { word.to_owned() } else { format!("{word}.service") }
}

/// A call of systemd's bus: its method is one of the words, and the unit one of those that follow.
fn bus_call(rest: &[&str]) -> Option<(RequestVerb, Subject)> {
    let names = |word: &str, method: &str| word == method || word.ends_with(&format!(".{method}"));
    let verb = |word: &str| {
        if names(word, "StopUnit") {
            Some(RequestVerb::Stop)
        } else if ["RestartUnit", "TryRestartUnit", "ReloadOrRestartUnit", "ReloadOrTryRestartUnit"]
            .iter()
            .any(|method| names(word, method))
        {
            Some(RequestVerb::Restart)
        } else {
            names(word, "KillUnit").then_some(RequestVerb::Kill)
        }
    };
    if rest.iter().any(|word| ["--user", "--session"].contains(word)) {
        return None;
    }
    let (at, verb) = rest.iter().enumerate().find_map(|(at, word)| Some((at, verb(word)?)))?;
    // As `dbus-send` writes it: string:web.service.
    let unit = |word: &&str| {
        let word = word.strip_prefix("string:").unwrap_or(word).trim_matches(['\'', '"']);
        UNIT_KINDS.iter().any(|kind| word.ends_with(kind)).then(|| word.to_owned())
    };
    let units: Vec<String> = rest[at + 1..].iter().filter_map(unit).take(TARGETS_MAX).collect();
    (!units.is_empty()).then_some((verb, Subject::Units(units)))
}

fn container(rest: &[&str]) -> Option<(RequestVerb, Subject)> {
    const VALUED: [&str; 14] = [
        "-t",
        "--time",
        "--timeout",
        "-s",
        "--signal",
        "-H",
        "--host",
        "-l",
        "--log-level",
        "-c",
        "--context",
        "--config",
        "--root",
        "--runroot",
    ];
    let (words, _) = split(rest, &VALUED);
    let mut words = words.into_iter();
    let mut verb = words.next()?;
    if matches!(verb, "container" | "pod") {
        verb = words.next()?;
    }
    let verb = match verb {
        "stop" | "rm" | "stopp" | "rmp" => RequestVerb::Stop,
        "restart" => RequestVerb::Restart,
        "kill" => RequestVerb::Kill,
        _ => return None,
    };
    let targets: Vec<String> = words.take(TARGETS_MAX).map(str::to_owned).collect();
    (!targets.is_empty()).then_some((verb, Subject::Containers(targets)))
}

fn kill(rest: &[&str]) -> Option<(RequestVerb, Subject)> {
    let mut pids = Vec::new();
    let mut rest = rest.iter().enumerate();
    let mut has_signal = false;
    while let Some((nth, &word)) = rest.next() {
        match word {
            "-l" | "-L" | "--list" | "--table" | "-0" => return None,
            "-s" | "-n" | "--signal" | "-q" => {
                let (_, value) = rest.next()?;
                if *value == "0" {
                    return None;
                }
                has_signal = true;
            }
            "--" => has_signal = true,
            _ => {
                // A group of processes is named by its leader.
                let is_signal = word.starts_with('-') && nth == 0 && !has_signal;
                if !is_signal && let Ok(pid) = word.trim_start_matches('-').parse() {
                    pids.push(pid);
                }
            }
        }
    }
    pids.truncate(TARGETS_MAX);
    (!pids.is_empty()).then_some((RequestVerb::Kill, Subject::Pids(pids)))
}

fn named(rest: &[&str], whole: bool) -> Option<(RequestVerb, Subject)> {
    const VALUED: [&str; 14] = [
        "-s",
        "--signal",
        "-u",
        "--euid",
        "-U",
        "--uid",
        "-g",
        "--pgroup",
        "-G",
        "--group",
        "-P",
        "--parent",
        "-t",
        "--terminal",
    ];
    let (words, options) = split(rest, &VALUED);
    if options.contains(&"-0") || options.contains(&"-l") {
        return None;
    }
    let names: Vec<String> = words.into_iter().take(TARGETS_MAX).map(str::to_owned).collect();
    (!names.is_empty()).then_some((RequestVerb::Kill, Subject::Named { names, whole }))
}

/// Whether a unit has this name, in which `*` and `?` stand for any part and any character.
pub fn matches(pattern: &str, unit: &str) -> bool {
    let (pattern, unit): (Vec<char>, Vec<char>) = (pattern.chars().collect(), unit.chars().collect());
    // The last `*` may stand for more, as long as the rest does not match.
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < unit.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, seen));
            at += 1;
        } else if pattern.get(at).is_some_and(|wanted| *wanted == '?' || *wanted == unit[seen]) {
            (at, seen) = (at + 1, seen + 1);
        } else if let Some((before, from)) = star {
            star = Some((before, from + 1));
            (at, seen) = (before + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|left| *left == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(line: &str) -> Option<(RequestVerb, Subject)> {
        of(line.split(' '))
    }

    fn units(names: &[&str]) -> Subject {
        Subject::Units(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn systemctl_asks_for_units_by_their_completed_names() {
        use RequestVerb::{Kill, Restart, Stop};
        assert_eq!(asks("systemctl stop web"), Some((Stop, units(&["web.service"]))));
        assert_eq!(asks("/usr/bin/systemctl --no-block stop -q web.service db@1.service"), {
            Some((Stop, units(&["web.service", "db@1.service"])))
        });
        assert_eq!(asks("systemctl try-restart web*"), Some((Restart, units(&["web*.service"]))));
        assert_eq!(asks("systemctl kill -s KILL web"), Some((Kill, units(&["web.service"]))));
        assert_eq!(asks("systemctl disable --now web.socket"), Some((Stop, units(&["web.socket"]))));
        assert_eq!(asks("systemctl isolate rescue.target"), Some((Stop, Subject::AllUnits)));
        for other in [
            "systemctl",
            "systemctl status web",
            "systemctl disable web",
            "systemctl --user stop web",
            "systemctl -M box stop web",
            "systemctl --host=box stop web",
            "ls stop web",
        ] {
            assert_eq!(asks(other), None, "{other}");
        }
    }

    #[test]
    fn callers_of_the_bus_name_the_method_and_the_unit() {
        let busctl = "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
                      org.freedesktop.systemd1.Manager StopUnit ss web.service replace";
        assert_eq!(asks(busctl), Some((RequestVerb::Stop, units(&["web.service"]))));
        let send = "dbus-send --system --dest=org.freedesktop.systemd1 /org/freedesktop/systemd1 \
                    org.freedesktop.systemd1.Manager.RestartUnit string:web.service string:replace";
        assert_eq!(asks(send), Some((RequestVerb::Restart, units(&["web.service"]))));
        assert_eq!(asks("busctl --user call x y z StopUnit ss web.service replace"), None);
        assert_eq!(asks("busctl call x y z GetUnit s web.service"), None);
    }

    #[test]
    fn engines_and_kill_name_containers_and_processes() {
        use RequestVerb::{Kill, Restart, Stop};
        let containers =
            |names: &[&str]| Subject::Containers(names.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(asks("docker stop -t 5 web"), Some((Stop, containers(&["web"]))));
        assert_eq!(
            asks("podman container kill --signal KILL web db"),
            Some((Kill, containers(&["web", "db"])))
        );
        assert_eq!(asks("podman --log-level debug restart web"), Some((Restart, containers(&["web"]))));
        assert_eq!(asks("docker ps"), None);
        let pids = |line| match asks(line) {
            Some((Kill, Subject::Pids(pids))) => pids,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(pids("kill -9 42"), [42]);
        assert_eq!(pids("kill -s KILL 42 43"), [42, 43]);
        assert_eq!(pids("kill -TERM -- -42"), [42]);
        assert_eq!(pids("kill 42"), [42]);
        assert_eq!(asks("kill -l 9"), None);
        assert_eq!(asks("kill -0 42"), None);
        let names = vec!["nginx".to_owned()];
        assert_eq!(
            asks("pkill -9 nginx"),
            Some((Kill, Subject::Named { names: names.clone(), whole: false }))
        );
        assert_eq!(asks("killall -s HUP nginx"), Some((Kill, Subject::Named { names, whole: true })));
    }

    #[test]
    fn wildcards_stand_for_any_part() {
        assert!(matches("web*.service", "web-1.service") && matches("*", "a.service"));
        assert!(matches("web@?.service", "web@1.service") && matches("*b*.s*", "abc.service"));
        assert!(!matches("web.service", "web-1.service") && !matches("w?.service", "web.service"));
        assert!(!matches("", "a") && matches("", ""));
    }
}
