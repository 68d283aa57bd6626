//! A command under the built-in supervisor: how it is started and how it is ended.

use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

use rustix::process::{Resource, Signal};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::{
    nearest::nearest,
    secret::Secret,
    values::{SIZE, Size, Written, digits, pattern, quote, words},
};
use crate::fact::process::signal_name;

/// A command under the built-in supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Absolute path and arguments.
    pub command: Vec<String>,
    /// The file its output is appended to.
    pub output: PathBuf,
    /// That file is rotated at this size, in bytes; None: never.
    pub output_max: Option<u64>,
    /// How many old files are kept.
    pub output_keep: u32,
    /// Whether each line begins with its time.
    pub output_stamp: bool,
    pub directory: PathBuf,
    /// Variables of its environment, besides the host's and the user's. Their values are not shown.
    pub environment: Vec<(String, Secret)>,
    /// The name or the number of the user that it runs as; None: the daemon's.
    pub user: Option<String>,
    /// The same for its group; None: the user's.
    pub group: Option<String>,
    /// The permissions that its new files do not have.
    pub umask: u32,
    pub rlimits: Vec<ResourceLimit>,
    /// Asks it to end.
    pub stop_signal: Signal,
    /// From that signal to SIGKILL.
    pub stop_timeout: Duration,
}

impl Default for Exec {
    /// New files are readable for all and writable for their owner, as in a login shell.
    fn default() -> Self {
        Self {
            command: Vec::new(),
            output: PathBuf::from("/dev/null"),
            output_max: None,
            output_keep: 3,
            output_stamp: false,
            directory: PathBuf::from("/"),
            environment: Vec::new(),
            user: None,
            group: None,
            umask: 0o022,
            rlimits: Vec::new(),
            stop_signal: Signal::TERM,
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// A limit of the kernel's (`getrlimit(2)`); None is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    pub resource: Resource,
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// The kernel's resources by the names that `prlimit(1)` and `limits.conf(5)` have for them.
const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The names of all resources.
pub(super) fn resource_names() -> Vec<&'static str> {
    RESOURCES.iter().map(|(name, _)| *name).collect()
}

/// The resource with this name, or the name that is probably meant.
pub(super) fn resource(name: &str) -> Result<Resource, Option<&'static str>> {
    let found = RESOURCES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, resource)| *resource)
        .ok_or_else(|| nearest(name, RESOURCES.iter().map(|(known, _)| *known)))
}

impl ResourceLimit {
    /// The name of its resource.
    pub fn name(&self) -> &'static str {
        RESOURCES.iter().find(|(_, resource)| *resource == self.resource).map_or("", |(name, _)| name)
    }
}

/// A soft and a hard limit as they are written; None is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SoftAndHard(pub(super) Option<u64>, pub(super) Option<u64>);

impl Written for SoftAndHard {
    const EXPECTED: &'static str =
        r#"a number, a size, "unlimited", or a soft and a hard limit such as "1024:65536""#;

    fn read(text: &str) -> Option<Self> {
        let limit = |text: &str| match text {
            "unlimited" => Some(None),
            number => digits(number).or_else(|| Some(Size::read(number)?.0)).map(Some),
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        Some(Self(limit(soft.trim())?, limit(hard.trim())?))
    }

    fn schema() -> Schema {
        let limit = format!(r"\s*(?:unlimited|[0-9]+|{SIZE})\s*");
        pattern(&format!("{limit}(?::{limit})?"))
    }
}

impl JsonSchema for SoftAndHard {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SoftAndHard".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0 }, Self::schema()] })
    }
}

impl<'de> Deserialize<'de> for SoftAndHard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = SoftAndHard;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SoftAndHard::EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SoftAndHard, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SoftAndHard, E> {
                let wrong =
                    || E::custom(format_args!("found {}, expected {}", quote(text), SoftAndHard::EXPECTED));
                SoftAndHard::read(text).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The permissions that new files do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Umask(pub(super) u32);

impl Written for Umask {
    const EXPECTED: &'static str = r#"octal digits such as "022" or "0077""#;

    fn read(text: &str) -> Option<Self> {
        let octal = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        u32::from_str_radix(text, 8).ok().filter(|mask| octal && *mask <= 0o777).map(Self)
    }

    fn schema() -> Schema {
        pattern("0?[0-7]{1,3}")
    }
}

/// The signals that stop a process for a while, or let it go on.
const STOPS: [Signal; 5] = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::CONT];

impl Written for Signal {
    const EXPECTED: &'static str =
        r#"the name of a signal that can end a process, such as "SIGTERM", "SIGQUIT" or "SIGUSR1""#;

    fn read(text: &str) -> Option<Self> {
        let is_named = |number: &u8| {
            let name = signal_name(*number);
            name == text || name.strip_prefix("SIG") == Some(text)
        };
        let signal = Self::from_named_raw((1..=31).find(is_named)?.into())?;
        Some(signal).filter(|signal| !STOPS.contains(signal))
    }

    fn schema() -> Schema {
        let names = (1..=31).map(signal_name).filter(|name| Self::read(name).is_some());
        let both: Vec<String> =
            names.flat_map(|name| [name.trim_start_matches("SIG").to_owned(), name.into_owned()]).collect();
        words(&both.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_umask_is_octal_and_a_signal_has_a_name() {
        assert_eq!(
            [Umask::read("022"), Umask::read("0077"), Umask::read("0")].map(|it| it.unwrap().0),
            [0o22, 0o77, 0]
        );
        for wrong in ["", "8", "0o22", "1022", "00022", "+22"] {
            assert_eq!(Umask::read(wrong), None, "{wrong}");
        }
        assert_eq!([Signal::read("SIGQUIT"), Signal::read("USR1")], [Some(Signal::QUIT), Some(Signal::USR1)]);
        assert_eq!([Signal::read("sigterm"), Signal::read("15"), Signal::read("SIGRTMIN+3")], [None; 3]);
        assert_eq!([Signal::read("SIGSTOP"), Signal::read("CONT")], [None; 2]);
    }

    #[test]
    fn a_limit_is_a_number_a_size_or_none_for_both_or_each() {
        let read = |text: &str| SoftAndHard::read(text);
        assert_eq!(read("0"), Some(SoftAndHard(Some(0), Some(0))));
        assert_eq!(read("8MiB:unlimited"), Some(SoftAndHard(Some(8 << 20), None)));
        assert_eq!(read("1024:65536"), Some(SoftAndHard(Some(1024), Some(65_536))));
        assert_eq!([read(""), read("-1"), read("1:2:3"), read("infinity"), read(":5")], [None; 5]);
    }

    #[test]
    fn a_resource_has_one_name() {
        for (name, known) in RESOURCES {
            assert_eq!(resource(name), Ok(known));
            assert_eq!(ResourceLimit { resource: known, soft: None, hard: None }.name(), name);
        }
        assert_eq!([resource("nofiles"), resource("x")], [Err(Some("nofile")), Err(None)]);
    }
}
