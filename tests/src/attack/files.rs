//! Paths of the configuration that lead to something else than a short file.

use std::{
    fs::{self, File},
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::plan::{Held, Plan, Repeated, Scene};
use crate::hanging_mount::HangingMount;

/// How long a path leads to the same thing.
const CHANGE: Duration = Duration::from_millis(2);

const KINDS: [fn(&Path) -> Result<()>; 6] = [fifo, endless, sparse, folder, socket, terminal];

fn fifo(path: &Path) -> Result<()> {
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}

fn endless(path: &Path) -> Result<()> {
    Ok(symlink("/dev/zero", path)?)
}

fn sparse(path: &Path) -> Result<()> {
    Ok(File::create(path)?.set_len(3 << 30)?)
}

fn folder(path: &Path) -> Result<()> {
    Ok(fs::create_dir(path)?)
}

fn socket(path: &Path) -> Result<()> {
    // The file stays when its listener goes.
    Ok(UnixListener::bind(path).map(drop)?)
}

fn terminal(path: &Path) -> Result<()> {
    Ok(symlink("/dev/ptmx", path)?)
}

fn matched(name: &str, pidfile: &Path) -> String {
    format!("[[service]]\nname = {name:?}\n[service.match]\npidfile = {:?}\n", pidfile.display().to_string())
}

/// A command that ends at once, and is started again.
fn writes(name: &str, output: &Path) -> String {
    format!(
        "[[service]]\nname = {name:?}\nexec = [\"/bin/false\"]\noutput = {:?}\n\
         [service.restart]\nbackoff = \"1s..1s\"\nbudget = \"1000 per 1h\"\n",
        output.display().to_string()
    )
}

/// Has a path lead to one kind after the other.
fn changing(path: PathBuf) -> Repeated {
    let mut next = 0;
    Repeated::start(move || {
        let _ =
            if path.is_dir() && !path.is_symlink() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        // The daemon may have made the file meanwhile.
        let _ = KINDS[next % KINDS.len()](&path);
        next += 1;
        std::thread::sleep(CHANGE);
    })
}

pub(super) fn paths(scene: &Scene) -> Result<Plan> {
    let at = |name: &str| scene.folder.join(name);
    let (mut config, mut held) = (String::new(), Held::new());
    for (number, make) in KINDS.iter().enumerate() {
        let (pidfile, output) = (at(&format!("pid-{number}")), at(&format!("output-{number}")));
        make(&pidfile)?;
        make(&output)?;
        config.push_str(&matched(&format!("pidfile-{number}"), &pidfile));
        config.push_str(&writes(&format!("output-{number}"), &output));
    }
    for changes in ["pidfile", "output"] {
        held.push(Box::new(changing(at(&format!("changing-{changes}")))));
    }
    config.push_str(&matched("changing-pidfile", &at("changing-pidfile")));
    config.push_str(&writes("changing-output", &at("changing-output")));
    if let Some(mount) = HangingMount::new() {
        config.push_str(&matched("hanging-pidfile", &mount.path("pid")));
        config.push_str(&writes("hanging-output", &mount.path("output")));
        held.push(Box::new(mount));
    }
    Ok(Plan { config, held, ..Plan::default() })
}
