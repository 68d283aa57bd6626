//! What there is to install, and how long it takes to build it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{
    peers::{blackbox, monit, netdata},
    section::{Effort, Row, Section, Unit},
};
use crate::parts::built;

/// What a user would install instead.
const PEERS: [(&str, &str); 5] = [
    ("exitsnoop", "/usr/sbin/exitsnoop"),
    ("Monit", monit::PROGRAM),
    ("Netdata", netdata::PROGRAM),
    ("blackbox_exporter", blackbox::EXPORTER),
    ("Prometheus", blackbox::PROMETHEUS),
];

pub fn measure(effort: Effort) -> Result<Section> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a folder")?;
    let size = |path: &Path| -> Result<f64> {
        let file = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
        Ok(file.len() as f64)
    };
    let mut program =
        Row::new("size of the program", Unit::Bytes).of("hostprobe", &[size(&built("hostprobe"))?]);
    for (peer, path) in PEERS {
        program = program.of(peer, &[size(path.as_ref())?]);
    }
    let object = root.join("probe-user/ebpf/hostprobe.bpf.o");
    let mut rows = vec![
        program.note("Of one file, stripped; Monit and Netdata link to further libraries of the system."),
        Row::new("size of the eBPF object in it", Unit::Bytes).of("hostprobe", &[size(&object)?]),
        Row::new("crates in the program", Unit::Count).of("hostprobe", &[crates(root)? as f64]),
    ];
    let mut unmeasured = Vec::new();
    match effort {
        Effort::Full => {
            let took = cold_build(root)?;
            rows.push(
                Row::new("cold build, as `cargo xtask run` does it", Unit::Nanoseconds)
                    .of("hostprobe", &[took]),
            );
        }
        Effort::Quick => unmeasured.push("the cold build, which takes minutes.".to_owned()),
    }
    Ok(Section {
        name: "build".to_owned(),
        title: "Program and build".to_owned(),
        method: "Sizes are of the files. The crates are those of `cargo tree -e normal`, hostprobe's own among them. The cold \
                 build is `cargo build --profile quick -p hostprobe` into an empty folder, with the crates' sources already fetched."
            .to_owned(),
        rows,
        further: String::new(),
        unmeasured,
    })
}

/// How many crates the daemon is made of.
fn crates(root: &Path) -> Result<usize> {
    let tree =
        ["tree", "--offline", "-p", "hostprobe", "-e", "normal", "--prefix", "none", "--format", "{p}"];
    let output = cargo(root).args(tree).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let crates: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    Ok(crates.iter().filter(|it| !it.is_empty()).count())
}

/// How long everything takes to build, in nanoseconds.
fn cold_build(root: &Path) -> Result<f64> {
    let folder = TempDir::new_in(root.join("target")).context("no folder can be made in target/")?;
    let began = Instant::now();
    let build = ["build", "--offline", "--quiet", "--profile", "quick", "-p", "hostprobe", "--target-dir"];
    let output = cargo(root).args(build).arg(folder.path()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(began.elapsed().as_nanos() as f64)
}

fn cargo(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(cargo);
    command.current_dir(root);
    command
}
