//! Where a process comes from: its program, its arguments, its cgroup.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use hostprobe::{
    host::cgroup::{Cgroups, Hierarchy},
    sensor::ebpf::{CgroupId, Exit, Record},
};

use super::Check;
use crate::{
    bench::Bench,
    process::{Doer, program},
    report::Outcome,
};

pub const CHECKS: &[Check] = &[
    ("exec: program and arguments", exec),
    ("cgroup: from id to path", cgroup),
    ("birth: of a family, orphaned", birth),
];

fn exec(bench: &mut Bench) -> Result<Outcome> {
    let (program, long) = (program()?, "x".repeat(1000));
    let given = ["do", "", "two words", &long];
    let mut command = Command::new(&program);
    let mut child = command.args(given).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let exec = bench.wait_for("exec", |record| {
        if let Record::Exec(it) = record { Some(it.clone()).filter(|it| it.pid == child.id()) } else { None }
    });
    child.wait()?;
    let exec = exec?;
    ensure!(Path::new(&exec.filename) == program, "filename {}", exec.filename);
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    ensure!(name.starts_with(&exec.comm) && !exec.comm.is_empty(), "named {}", exec.comm);
    let (first, last) = exec.arguments.split_at_checked(4).context("too few arguments")?;
    ensure!(Path::new(&first[0]) == program && first[1..] == given[..3], "{first:?}");
    let cut = last.len() == 1 && last[0].starts_with("xxx") && long.starts_with(&last[0]);
    ensure!(cut && exec.arguments_truncated, "{last:?}");
    ensure!(exec.parent_pid == std::process::id() && exec.uid == 0, "{exec:?}");
    Ok(Outcome::Kept("filename, 4 arguments whole, the fifth cut".to_owned()))
}

/// A cgroup of the unified hierarchy, removed when it is dropped.
struct Group {
    folder: std::path::PathBuf,
    path: String,
}

impl Group {
    fn new(cgroups: &Cgroups) -> Result<Self> {
        let root = cgroups.folder(Hierarchy::V2, "/").context("no unified hierarchy is mounted")?;
        let path = format!("/hostprobe-conformance-{}", std::process::id());
        let folder = root.join(&path[1..]);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, path })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes have ended, and were waited for.
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

fn cgroup(bench: &mut Bench) -> Result<Outcome> {
    let cgroups = Cgroups::discover("/".as_ref())?;
    let group = Group::new(&cgroups)?;
    let made = bench.wait_for("making of a cgroup", |record| {
        if let Record::Cgroup(it) = record { Some(it.id).filter(|_| it.path == group.path) } else { None }
    })?;
    let mut doer = Doer::start(&["exit", "4"])?;
    fs::write(group.folder.join("cgroup.procs"), doer.pid().to_string())?;
    let path = cgroups.of(doer.pid()).v2.context("no group")?;
    ensure!(path == group.path, "in {path}, not in {}", group.path);
    let id = cgroups.id(Hierarchy::V2, &path).context("the group has no id")?;
    ensure!(made == id, "made with the id {made}, not {id}");
    // Its failure is told because the group is watched.
    bench.kernel.watch_cgroup(CgroupId::Unified(id))?;
    doer.go();
    let exit = bench.wait_for_exit(doer.pid())?;
    doer.wait()?;
    ensure!(exit.cgroups.v2 == Some(id) && exit.watched, "{:?}, not {id}", exit.cgroups);
    Ok(Outcome::Kept("the id of its folder".to_owned()))
}

/// A process that has lost its parent is told of as the family's that it was born into.
fn birth(bench: &mut Bench) -> Result<Outcome> {
    const FAMILY: u32 = 77;
    let mut doer = Doer::start(&["orphan", "6"])?;
    bench.kernel.watch_process(doer.pid(), FAMILY)?;
    doer.go();
    let exit = bench.wait_for("end of an orphan", |record| {
        let coded = |it: &Exit| it.status.code() == Some(6) && it.lineage == Some(FAMILY);
        if let Record::Exit(it) = record { Some(it.clone()).filter(coded) } else { None }
    })?;
    doer.wait()?;
    ensure!(exit.pid != doer.pid() && exit.parent_pid != doer.pid(), "{exit:?}");
    ensure!(exit.watched, "{exit:?}");
    Ok(Outcome::Kept("the family, whoever its parent is by then".to_owned()))
}
