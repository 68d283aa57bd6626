//! The checks of the host. Their values say themselves what is wrong with them.

use std::collections::BTreeMap;

use crate::config::{
    file,
    host::{FileSystemOptions, HostOptions},
    switch::{ByPattern, OrOff, Percent},
    values::Table,
};

pub(super) fn host(written: &file::Host) -> HostOptions {
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
    let default = HostOptions::default();
    let percent = |written: &Option<OrOff<Percent>>, default| OrOff::value(written, default, |it| it.0);
    HostOptions {
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

fn file_systems(
    written: Option<&OrOff<ByPattern<file::FileSystem>>>,
    mut all: BTreeMap<String, Option<FileSystemOptions>>,
) -> BTreeMap<String, Option<FileSystemOptions>> {
    match written {
        None => {}
        Some(OrOff::Off) => all.clear(),
        Some(OrOff::On(ByPattern(written))) => {
            for (pattern, options) in written {
                let options = match options {
                    OrOff::Off => None,
                    OrOff::On(Table(written)) => Some(file_system(written)),
                };
                all.insert(pattern.clone(), options);
            }
        }
    }
    all
}

fn file_system(written: &file::FileSystem) -> FileSystemOptions {
    let file::FileSystem { percent, inodes_percent, time_to_full, read_only } = written;
    let default = FileSystemOptions::default();
    FileSystemOptions {
        percent: OrOff::value(percent, default.percent, |it| it.0),
        inodes_percent: OrOff::value(inodes_percent, default.inodes_percent, |it| it.0),
        time_to_full: OrOff::value(time_to_full, default.time_to_full, |it| it.0),
        read_only: read_only.unwrap_or(default.read_only),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
