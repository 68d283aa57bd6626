//! The identity of a process: program, arguments, cgroup, lineage.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use hostprobe::{
    host::cgroup::{Cgroups, Hierarchy},
    sensor::{
        ebpf::CgroupId,
        record::{Exit, Record},
    },
};

use crate::{
    check::FixtureCheck,
    fixture::Fixture,
    report::Outcome,
    workload::{Workload, program},
};

pub const CHECKS: &[FixtureCheck] = &[
    ("exec: program and arguments", exec),
    ("cgroup: path and id", cgroup),
    ("fork: lineage of an orphan", orphan),
];

fn exec(fixture: &mut Fixture) -> Result<Outcome> {
    let (program, long) = (program()?, "x".repeat(1000));
    let given = ["act", "", "two words", &long];
    let mut command = Command::new(&program);
    let mut child = command.args(given).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let exec = fixture.wait_for("exec", |record| {
        if let Record::Exec(it) = record { Some(it.clone()).filter(|it| it.pid == child.id()) } else { None }
    });
    child.wait()?;
    let exec = exec?;
    let image = exec.image.as_ref().context("no image")?;
    ensure!(Path::new(&image.filename) == program, "filename {}", image.filename);
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    ensure!(name.starts_with(&image.comm) && !image.comm.is_empty(), "named {}", image.comm);
    let (first, last) = image.arguments.split_at_checked(4).context("too few arguments")?;
    ensure!(Path::new(&first[0]) == program && first[1..] == given[..3], "{first:?}");
    let cut = last.len() == 1 && last[0].starts_with("xxx") && long.starts_with(&last[0]);
    ensure!(cut && image.arguments_truncated, "{last:?}");
    ensure!(image.parent_pid == std::process::id() && image.uid == 0, "{exec:?}");
    let namespace = fs::read_link("/proc/self/ns/pid")?;
    let recorded = image.pid_namespace.map(|inode| format!("pid:[{inode}]"));
    ensure!(recorded.as_deref() == namespace.to_str(), "{recorded:?} instead of {namespace:?}");
    Ok(Outcome::Passed("filename, 4 arguments whole, the fifth cut".to_owned()))
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
        // Its processes have ended: the checks waited for them.
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

fn cgroup(fixture: &mut Fixture) -> Result<Outcome> {
    let cgroups = Cgroups::discover("/".as_ref())?;
    let group = Group::new(&cgroups)?;
    let made = fixture.wait_for("new cgroup", |record| {
        if let Record::Cgroup(it) = record { Some(it.id).filter(|_| it.path == group.path) } else { None }
    })?;
    let mut workload = Workload::start(&["exit", "4"])?;
    fs::write(group.folder.join("cgroup.procs"), workload.pid().to_string())?;
    let path = cgroups.of(workload.pid()).v2.context("no cgroup")?;
    ensure!(path == group.path, "in {path}, not in {}", group.path);
    let id = cgroups.id(Hierarchy::V2, &path).context("the cgroup has no id")?;
    ensure!(made == id, "made with the id {made}, not {id}");
    // The programs report its failure because the group is watched.
    fixture.sensor.watch_cgroup(CgroupId::Unified(id))?;
    workload.release();
    let exit = fixture.wait_for_exit(workload.pid())?;
    workload.wait()?;
    ensure!(exit.cgroups.v2 == Some(id) && exit.watched, "{:?}, not {id}", exit.cgroups);
    Ok(Outcome::Passed("the inode of its directory".to_owned()))
}

/// A process whose parent ended keeps the lineage that it was born into.
fn orphan(fixture: &mut Fixture) -> Result<Outcome> {
    const LINEAGE: u32 = 77;
    let mut workload = Workload::start(&["orphan", "6"])?;
    fixture.sensor.watch_process(workload.pid(), LINEAGE)?;
    workload.release();
    let exit = fixture.wait_for("exit of an orphan", |record| {
        let coded = |it: &Exit| it.status.code() == Some(6) && it.lineage == Some(LINEAGE);
        if let Record::Exit(it) = record { Some(it.clone()).filter(coded) } else { None }
    })?;
    workload.wait()?;
    ensure!(exit.pid != workload.pid() && exit.parent_pid != workload.pid(), "{exit:?}");
    ensure!(exit.watched, "{exit:?}");
    Ok(Outcome::Passed("its lineage, whatever its parent is by then".to_owned()))
}
