//! The pid namespace of this process, whose ids the eBPF programs report.
//!
//! A process has an id in its own pid namespace and in every one above. The programs pick the id at the level of the
//! daemon's namespace, if the process is in there. No file tells a process how deep its namespace is nested, so the
//! daemon runs a program once that returns the level.

use std::{fs, path::Path};

use aya::{
    Ebpf,
    programs::{ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use probe_abi::ABSENT;

use super::{error::LoadError, fields::Resolved};
use crate::fact::INITIAL_PID_NAMESPACE;

/// The program that returns the level.
const PROGRAM: &str = "pid_namespace_level";

/// The globals that a translation of ids needs.
const FIELDS: [&str; 7] = [
    "OFF_TASK_THREAD_PID",
    "OFF_PID_LEVEL",
    "OFF_PID_NUMBERS",
    "OFF_UPID_NR",
    "SIZE_UPID",
    "OFF_UPID_NS",
    "OFF_PIDNS_INUM",
];

/// Inode of this process's pid namespace, if that is not the initial one. `link` is its `/proc/self/ns/pid`.
pub fn other_than_initial(link: &Path) -> Option<u32> {
    let name = fs::read_link(link).ok()?;
    let inode = name.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()?;
    (inode != INITIAL_PID_NAMESPACE).then_some(inode)
}

/// Nesting depth of this process's pid namespace; 1 right below the initial one.
pub fn level(mut ebpf: Ebpf, resolved: &Resolved) -> Result<u32, LoadError> {
    if let Some(field) = FIELDS.iter().find(|field| resolved.globals.get(*field) == Some(&ABSENT)) {
        return Err(LoadError::Namespace(format!("this kernel has no field for {field}")));
    }
    match run(&mut ebpf) {
        Ok(0) => Err(LoadError::Namespace("the kernel reports it as the initial one".to_owned())),
        Ok(level) => Ok(level),
        Err(error) => Err(LoadError::Namespace(format!("cannot run the program {PROGRAM}: {error}"))),
    }
}

fn run(ebpf: &mut Ebpf) -> Result<u32, ProgramError> {
    let missing = || ProgramError::InvalidName { name: PROGRAM.to_owned() };
    let program: &mut RawTracePoint = ebpf.program_mut(PROGRAM).ok_or_else(missing)?.try_into()?;
    program.load()?;
    Ok(program.test_run(RawTracePointRunOptions::default())?.return_value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_initial_namespace_needs_no_translation() {
        let folder = tempfile::tempdir().unwrap();
        let at = |target: &str| {
            let link = folder.path().join(target);
            symlink(target, &link).unwrap();
            other_than_initial(&link)
        };
        assert_eq!(at("pid:[4026531836]"), None);
        assert_eq!(at("pid:[4026532277]"), Some(4_026_532_277));
        assert_eq!(at("pid:[x]"), None);
        assert_eq!(other_than_initial(&folder.path().join("none")), None);
    }
}
