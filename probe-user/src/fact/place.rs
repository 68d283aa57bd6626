//! Where the daemon itself runs, and what it can see from there.

use std::fmt;

/// The inode of the initial pid namespace (`PROC_PID_INIT_INO` in `linux/proc_ns.h`).
pub const INITIAL_PID_NAMESPACE: u32 = 4_026_531_836;

/// Where this process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The inode of its pid namespace, if the kernel reports it.
    pub pid_namespace: Option<u32>,
    /// Its pid in the pid namespace of `/proc`, if that is not its own namespace. None if it has no pid there.
    pub foreign_proc: Option<String>,
    pub container: Option<Container>,
    /// Which cgroup hierarchies there are.
    pub cgroups: CgroupMode,
    /// It sees only a part of the cgroups: it is in a cgroup namespace, or only a part is mounted.
    pub cgroups_are_a_part: bool,
}

/// A container that this process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its runtime, such as `docker`; empty if unknown.
    pub runtime: String,
    /// Its id, if its cgroup or its runtime has it.
    pub id: Option<String>,
}

impl Place {
    /// Whether its pid namespace is the host's. Without an answer from the kernel it counts as the host's.
    pub fn sees_the_host(&self) -> bool {
        self.pid_namespace.is_none_or(|inode| inode == INITIAL_PID_NAMESPACE)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.container {
            None if self.sees_the_host() => f.write_str("on the host itself")?,
            None => f.write_str("outside of the host's pid namespace")?,
            Some(container) => write!(f, "in {container}")?,
        }
        if !self.sees_the_host() {
            f.write_str(", where only processes of its own pid namespace are seen")?;
        } else if self.container.is_some() {
            f.write_str(", in the host's pid namespace")?;
        }
        let part = if self.cgroups_are_a_part { ", a part of it" } else { "" };
        write!(f, "; {}{part}", self.cgroups)
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.runtime.as_str() {
            "" => f.write_str("a container")?,
            runtime => write!(f, "a {runtime} container")?,
        }
        // As Docker shortens it.
        self.id.as_ref().map_or(Ok(()), |id| write!(f, " ({})", id.get(..12).unwrap_or(id)))
    }
}

/// Which hierarchies a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// Cgroup v1 alone.
    V1,
    /// The controllers on v1, and v2 beside them.
    Hybrid,
    /// Cgroup v2 alone.
    V2,
    /// None that matters here.
    None,
}

impl CgroupMode {
    /// The word for it in the event stream.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
            Self::V2 => "v2",
            Self::None => "none",
        }
    }
}

impl fmt::Display for CgroupMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "cgroup v1",
            Self::Hybrid => "cgroup v1 and v2 (hybrid)",
            Self::V2 => "cgroup v2",
            Self::None => "no cgroups are mounted",
        })
    }
}
