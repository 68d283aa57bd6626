//! The host itself: what its checks measure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Source;
use crate::clock::Timestamp;

/// A check of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostCheck {
    Space,
    Inodes,
    ReadOnly,
    Memory,
    MemoryPressure,
    CpuPressure,
    IoPressure,
    CpuSteal,
    Pids,
    Files,
    Conntrack,
    Ports,
    Neighbours,
    ClockOffset,
    ClockSync,
    ClockStep,
    Reboot,
    HungTask,
    BlockErrors,
    FsErrors,
    MemoryErrors,
    Thermal,
}

impl HostCheck {
    pub const ALL: [Self; 22] = [
        Self::Space,
        Self::Inodes,
        Self::ReadOnly,
        Self::Memory,
        Self::MemoryPressure,
        Self::CpuPressure,
        Self::IoPressure,
        Self::CpuSteal,
        Self::Pids,
        Self::Files,
        Self::Conntrack,
        Self::Ports,
        Self::Neighbours,
        Self::ClockOffset,
        Self::ClockSync,
        Self::ClockStep,
        Self::Reboot,
        Self::HungTask,
        Self::BlockErrors,
        Self::FsErrors,
        Self::MemoryErrors,
        Self::Thermal,
    ];

    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Inodes => "inodes",
            Self::ReadOnly => "read_only",
            Self::Memory => "memory",
            Self::MemoryPressure => "memory_pressure",
            Self::CpuPressure => "cpu_pressure",
            Self::IoPressure => "io_pressure",
            Self::CpuSteal => "cpu_steal",
            Self::Pids => "pids",
            Self::Files => "files",
            Self::Conntrack => "conntrack",
            Self::Ports => "ports",
            Self::Neighbours => "neighbours",
            Self::ClockOffset => "clock_offset",
            Self::ClockSync => "clock_sync",
            Self::ClockStep => "clock_step",
            Self::Reboot => "reboot",
            Self::HungTask => "hung_task",
            Self::BlockErrors => "block_errors",
            Self::FsErrors => "fs_errors",
            Self::MemoryErrors => "memory_errors",
            Self::Thermal => "thermal",
        }
    }

    /// The share of its limit below which what was at its limit is well again, so that it does not come and go.
    pub const fn clear_share(self) -> f64 {
        match self {
            Self::MemoryPressure
            | Self::CpuPressure
            | Self::IoPressure
            | Self::CpuSteal
            | Self::Thermal
            | Self::ClockOffset
            | Self::ClockStep => 0.75,
            Self::Space
            | Self::Inodes
            | Self::ReadOnly
            | Self::Memory
            | Self::Pids
            | Self::Files
            | Self::Conntrack
            | Self::Ports
            | Self::Neighbours
            | Self::ClockSync
            | Self::Reboot
            | Self::HungTask
            | Self::BlockErrors
            | Self::FsErrors
            | Self::MemoryErrors => 0.97,
        }
    }
}

/// What a check is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostSubject {
    pub check: HostCheck,
    /// The mount point, the device, or the name of a process; empty for the host as a whole.
    pub target: String,
}

/// One result of a check of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostReading {
    pub at: Timestamp,
    pub subject: HostSubject,
    pub source: Source,
    /// In the unit of the check. Of what the kernel reports as it happens: how often since the last reading.
    pub value: f64,
    /// The limit that the configuration sets, or 1.
    pub limit: f64,
    /// When there will be nothing left at the present rate, if that is soon.
    pub time_left: Option<Duration>,
    /// Nothing is left, so that what needs it fails.
    pub exhausted: bool,
    /// Of a file system: root can still write, to the blocks that are reserved for it.
    #[serde(default)]
    pub root_has_room: bool,
    /// The device number of a file system, as `major:minor` of `mountinfo`.
    pub device: Option<String>,
    /// A sentence for people, without the host's name.
    pub words: String,
    /// What a hook saw of it.
    #[serde(default)]
    pub fault: Option<Box<HostFault>>,
}

/// What a hook saw of a fault of the host, as far as the fault has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFault {
    /// The thread that hangs, or that the kernel was working for.
    pub task: Option<HostTask>,
    /// What a disk was to do, such as `read`.
    pub operation: Option<String>,
    /// The first sector that failed, in units of 512 bytes.
    pub sector: Option<u64>,
    /// How much failed from there.
    pub bytes: Option<u64>,
    /// The kernel's word for the error.
    pub error: Option<String>,
    /// A physical address.
    pub address: Option<u64>,
    /// Where the kernel found it: a function or a file of its source, and the line.
    pub place: Option<String>,
}

/// A thread, by its ids in the daemon's pid namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTask {
    /// 0 outside the namespace.
    pub pid: u32,
    /// None if it is not known.
    pub tid: Option<u32>,
    /// The name of the process (`comm`); of the thread, if no other is known.
    pub name: String,
}

/// Where the processes of a service write to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// The file systems, by their device numbers.
    pub devices: Vec<String>,
    /// Its main process runs as root, which may use what a file system reserves.
    pub as_root: bool,
}

impl HostReading {
    /// Whether the value is at its limit, or will be soon.
    pub fn is_bad(&self) -> bool {
        self.value >= self.limit || self.exhausted || self.time_left.is_some()
    }
}

/// A check has found trouble, or its end.
#[derive(Clone, Debug, PartialEq)]
pub struct HostState {
    pub reading: HostReading,
    pub is_well: bool,
}
