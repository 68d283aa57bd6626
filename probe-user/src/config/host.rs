//! The checks of the host, and the values of their keys.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};

use super::{
    file,
    hook::matches,
    values::{Table, Written, quote},
};

/// What is checked on the host, and from where on it is an incident. None turns a check off.
#[derive(Clone, Debug, PartialEq)]
pub struct HostOptions {
    /// By the pattern of their mount points; of several that match, the longest counts.
    pub file_systems: BTreeMap<String, Option<FileSystemOptions>>,
    pub memory_percent: Option<f64>,
    pub memory_pressure_percent: Option<f64>,
    pub cpu_pressure_percent: Option<f64>,
    pub io_pressure_percent: Option<f64>,
    pub cpu_steal_percent: Option<f64>,
    pub pids_percent: Option<f64>,
    pub files_percent: Option<f64>,
    pub conntrack_percent: Option<f64>,
    pub ports_percent: Option<f64>,
    pub neighbours_percent: Option<f64>,
    pub thermal_percent: Option<f64>,
    pub clock_offset: Option<Duration>,
    pub clock_sync: bool,
    pub reboot: bool,
    pub hung_tasks: bool,
    pub block_errors: bool,
    pub fs_errors: bool,
    pub memory_errors: bool,
}

/// The limits of a file system.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSystemOptions {
    pub percent: Option<f64>,
    pub inodes_percent: Option<f64>,
    /// It is to be full no sooner than this, at its present rate.
    pub time_to_full: Option<Duration>,
    pub read_only: bool,
}

impl Default for FileSystemOptions {
    fn default() -> Self {
        Self {
            percent: Some(90.0),
            inodes_percent: Some(95.0),
            time_to_full: Some(Duration::from_secs(4 * 3600)),
            read_only: true,
        }
    }
}

/// The pattern of all file systems that no other pattern matches.
pub const ALL_FILE_SYSTEMS: &str = "*";

impl Default for HostOptions {
    /// No limit that a healthy host reaches. A busy one has its CPUs and disks wait for each other much of the time.
    fn default() -> Self {
        Self {
            file_systems: [(ALL_FILE_SYSTEMS.to_owned(), Some(FileSystemOptions::default()))].into(),
            memory_percent: Some(95.0),
            memory_pressure_percent: Some(20.0),
            cpu_pressure_percent: None,
            io_pressure_percent: None,
            cpu_steal_percent: Some(30.0),
            pids_percent: Some(85.0),
            files_percent: Some(85.0),
            conntrack_percent: Some(85.0),
            ports_percent: Some(85.0),
            neighbours_percent: Some(90.0),
            thermal_percent: Some(30.0),
            clock_offset: Some(Duration::from_millis(500)),
            clock_sync: true,
            reboot: true,
            hung_tasks: true,
            block_errors: true,
            fs_errors: true,
            memory_errors: true,
        }
    }
}

impl HostOptions {
    /// The limits of the file system that is mounted here, and whether a pattern of its own names it, as `"*"` does not.
    pub fn file_system(&self, mount_point: &str) -> Option<(&FileSystemOptions, bool)> {
        let matching = self.file_systems.iter().filter(|(pattern, _)| matches(pattern, mount_point));
        let (pattern, options) = matching.max_by_key(|(pattern, _)| pattern.len())?;
        Some((options.as_ref()?, pattern != ALL_FILE_SYSTEMS))
    }

    /// Whether the kernel's log is read for it.
    pub fn reads_log(&self) -> bool {
        self.hung_tasks || self.block_errors || self.fs_errors || self.memory_errors
    }

    pub(super) fn of(written: &file::Host) -> Self {
        // Destructured whole, so that a new key does not compile until it is handled here.
        let file::Host {
            filesystems,
            memory_percent,
            memory_pressure_percent,
            cpu_pressure_percent,
            io_pressure_percent,
            cpu_steal_percent,
            pids_percent,
            files_percent,
            conntrack_percent,
            ports_percent,
            neighbours_percent,
            thermal_percent,
            clock_offset,
            clock_sync,
            reboot,
            hung_tasks,
            block_errors,
            fs_errors,
            memory_errors,
        } = written;
        let default = Self::default();
        let percent = |written: &Option<OrOff<Percent>>, default| OrOff::value(written, default, |it| it.0);
        Self {
            file_systems: file_systems(filesystems.as_ref(), default.file_systems),
            memory_percent: percent(memory_percent, default.memory_percent),
            memory_pressure_percent: percent(memory_pressure_percent, default.memory_pressure_percent),
            cpu_pressure_percent: percent(cpu_pressure_percent, default.cpu_pressure_percent),
            io_pressure_percent: percent(io_pressure_percent, default.io_pressure_percent),
            cpu_steal_percent: percent(cpu_steal_percent, default.cpu_steal_percent),
            pids_percent: percent(pids_percent, default.pids_percent),
            files_percent: percent(files_percent, default.files_percent),
            conntrack_percent: percent(conntrack_percent, default.conntrack_percent),
            ports_percent: percent(ports_percent, default.ports_percent),
            neighbours_percent: percent(neighbours_percent, default.neighbours_percent),
            thermal_percent: percent(thermal_percent, default.thermal_percent),
            clock_offset: OrOff::value(clock_offset, default.clock_offset, |it| it.0),
            clock_sync: clock_sync.unwrap_or(default.clock_sync),
            reboot: reboot.unwrap_or(default.reboot),
            hung_tasks: hung_tasks.unwrap_or(default.hung_tasks),
            block_errors: block_errors.unwrap_or(default.block_errors),
            fs_errors: fs_errors.unwrap_or(default.fs_errors),
            memory_errors: memory_errors.unwrap_or(default.memory_errors),
        }
    }
}

fn file_systems(
    written: Option<&OrOff<FileSystems>>,
    mut all: BTreeMap<String, Option<FileSystemOptions>>,
) -> BTreeMap<String, Option<FileSystemOptions>> {
    match written {
        None => {}
        Some(OrOff::Off) => all.clear(),
        Some(OrOff::On(FileSystems(written))) => {
            for (pattern, options) in written {
                let options = match options {
                    OrOff::Off => None,
                    OrOff::On(Table(written)) => Some(FileSystemOptions::of(written)),
                };
                all.insert(pattern.clone(), options);
            }
        }
    }
    all
}

impl FileSystemOptions {
    fn of(written: &file::FileSystem) -> Self {
        let file::FileSystem { percent, inodes_percent, time_to_full, read_only } = written;
        let default = Self::default();
        Self {
            percent: OrOff::value(percent, default.percent, |it| it.0),
            inodes_percent: OrOff::value(inodes_percent, default.inodes_percent, |it| it.0),
            time_to_full: OrOff::value(time_to_full, default.time_to_full, |it| it.0),
            read_only: read_only.unwrap_or(default.read_only),
        }
    }
}

/// A value, or `false` to turn a check off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OrOff<T> {
    On(T),
    Off,
}

impl<T> OrOff<T> {
    fn value<V>(written: &Option<Self>, default: Option<V>, value: impl Fn(&T) -> V) -> Option<V> {
        match written {
            None => default,
            Some(Self::Off) => None,
            Some(Self::On(written)) => Some(value(written)),
        }
    }
}

/// What can stand in place of `false`.
pub(super) trait Switched: Sized {
    /// Completes "expected …, or false".
    const EXPECTED: &'static str;

    fn number(_number: f64) -> Option<Self> {
        None
    }

    fn text(_text: &str) -> Option<Self> {
        None
    }

    /// None if it is no table.
    fn table<'de, A: de::MapAccess<'de>>(_table: A) -> Option<Result<Self, A::Error>> {
        None
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

impl<'de, T: Switched> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: Switched> Visitor<'de> for Reader<T> {
            type Value = OrOff<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or false", T::EXPECTED)
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<OrOff<T>, E> {
                if on { Err(wrong::<T, E>("true")) } else { Ok(OrOff::Off) }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OrOff<T>, E> {
                T::number(number as f64).map(OrOff::On).ok_or_else(|| wrong::<T, E>(&number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<OrOff<T>, E> {
                T::number(number).map(OrOff::On).ok_or_else(|| wrong::<T, E>(&number.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OrOff<T>, E> {
                T::text(text).map(OrOff::On).ok_or_else(|| wrong::<T, E>(&quote(text)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, table: A) -> Result<OrOff<T>, A::Error> {
                T::table(table).unwrap_or_else(|| Err(wrong::<T, A::Error>("a table"))).map(OrOff::On)
            }
        }
        deserializer.deserialize_any(Reader(std::marker::PhantomData))
    }
}

fn wrong<T: Switched, E: de::Error>(found: &str) -> E {
    E::custom(format_args!("found {found}, expected {}, or false", T::EXPECTED))
}

impl<T: Switched> JsonSchema for OrOff<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OrOff".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let on = T::schema(generator);
        json_schema!({ "anyOf": [on, { "const": false }] })
    }
}

/// Above 0, to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Percent(f64);

impl Switched for Percent {
    const EXPECTED: &'static str = "a percentage above 0, to 100";

    fn number(number: f64) -> Option<Self> {
        (number > 0.0 && number <= 100.0).then_some(Self(number))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0, "maximum": 100 })
    }
}

/// A duration above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time(Duration);

impl Switched for Time {
    const EXPECTED: &'static str = Duration::EXPECTED;

    fn text(text: &str) -> Option<Self> {
        Duration::read(text).filter(|time| !time.is_zero()).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        super::values::some_duration()
    }
}

/// File systems by the pattern of their mount points.
#[derive(Clone, Debug)]
pub(super) struct FileSystems(BTreeMap<String, OrOff<Table<file::FileSystem>>>);

impl Switched for FileSystems {
    const EXPECTED: &'static str = r#"a table such as { "/var*" = { percent = 80 } }"#;

    fn table<'de, A: de::MapAccess<'de>>(mut table: A) -> Option<Result<Self, A::Error>> {
        let mut all = BTreeMap::new();
        let read = loop {
            match table.next_entry::<String, OrOff<Table<file::FileSystem>>>() {
                Err(error) => break Err(error),
                Ok(None) => break Ok(Self(all)),
                Ok(Some((pattern, _))) if !is_pattern(&pattern) => {
                    break Err(de::Error::custom(
                        "found another pattern, expected \"*\", or the absolute path of a mount point, with * for any characters",
                    ));
                }
                Ok(Some((pattern, options))) => drop(all.insert(pattern, options)),
            }
        };
        Some(read)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let of_one = generator.subschema_for::<OrOff<Table<file::FileSystem>>>();
        json_schema!({ "type": "object", "propertyNames": { "pattern": "^[/*]" }, "additionalProperties": of_one })
    }
}

fn is_pattern(pattern: &str) -> bool {
    pattern.starts_with(['/', '*'])
}

impl Switched for Table<file::FileSystem> {
    const EXPECTED: &'static str = "a table such as { percent = 80 }";

    fn table<'de, A: de::MapAccess<'de>>(table: A) -> Option<Result<Self, A::Error>> {
        Some(file::FileSystem::deserialize(MapAccessDeserializer::new(table)).map(Table))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<file::FileSystem>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigErrors, check::Outside, load::from_text};

    fn parse(text: &str) -> Result<Config, ConfigErrors> {
        let outside = Outside { variable: &|_| None, account: &|_, _| Ok(()), readable_by_others: false };
        from_text("h.toml".as_ref(), text, &outside)
    }

    fn host(text: &str) -> HostOptions {
        parse(&format!("[host]\n{text}")).unwrap_or_else(|errors| panic!("{errors}")).host
    }

    #[test]
    fn what_is_not_written_keeps_its_default_and_false_turns_a_check_off() {
        assert_eq!(host(""), HostOptions::default());
        let written = host(
            "memory_percent = false\npids_percent = 50.5\nclock_offset = \"2s\"\nclock_sync = false\n\
             filesystems = { \"/data\" = { percent = 80, time_to_full = false }, \"/scratch*\" = false }",
        );
        assert_eq!((written.memory_percent, written.pids_percent), (None, Some(50.5)));
        assert_eq!((written.clock_offset, written.clock_sync), (Some(Duration::from_secs(2)), false));
        let data =
            FileSystemOptions { percent: Some(80.0), time_to_full: None, ..FileSystemOptions::default() };
        assert_eq!(written.file_system("/data"), Some((&data, true)));
        assert_eq!(written.file_system("/scratch/1"), None);
        assert_eq!(written.file_system("/"), Some((&FileSystemOptions::default(), false)));
        assert_eq!(host("filesystems = false").file_system("/"), None);
        assert_eq!(host("filesystems = { \"*\" = false }").file_system("/"), None);
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_is_expected() {
        for (text, expected) in [
            ("memory_percent = 0", "found 0; expected a percentage above 0, to 100, or false"),
            ("memory_percent = 101", "found 101; expected a percentage"),
            ("memory_percent = true", "found true; expected a percentage"),
            ("memory_percent = \"90\"", "found \"90\"; expected a percentage"),
            ("clock_offset = \"0s\"", "found \"0s\"; expected a duration"),
            ("clock_offset = 5", "found 5; expected a duration"),
            ("filesystems = { data = { percent = 80 } }", "found another pattern; expected \"*\""),
            ("filesystems = { \"/a\" = { percents = 80 } }", "percents"),
            ("filesystems = { \"/a\" = 80 }", "found 80; expected a table such as"),
            ("filesystems = { \"/a\" = { read_only = 1 } }", "1"),
            ("disks = false", "disks"),
        ] {
            let errors = parse(&format!("[host]\n{text}")).expect_err(text).to_string();
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
