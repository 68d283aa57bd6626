//! The checks of the host.

use std::{collections::BTreeMap, time::Duration};

use super::hook::matches;

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

    /// Whether the kernel's log is read for it: instead of hooks that are missing, and beside the others.
    pub fn reads_log(&self) -> bool {
        let Self { thermal_percent, conntrack_percent, files_percent, neighbours_percent, .. } = self;
        let limits = [thermal_percent, conntrack_percent, files_percent, neighbours_percent];
        self.hung_tasks
            || self.block_errors
            || self.fs_errors
            || self.memory_errors
            || limits.iter().any(|limit| limit.is_some())
    }
}
