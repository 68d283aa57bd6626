//! The root of a Debian that nothing of this project has touched.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};

use crate::parts::{require, require_root};

const MMDEBSTRAP: &str = "/usr/bin/mmdebstrap";

const MIRROR: &str = "http://deb.debian.org/debian";

/// What a server has, and what the package of hostprobe asks for: then its installation fetches nothing.
const PACKAGES: &str = "dbus,init-system-helpers,polkitd,systemd,systemd-sysv";

/// Neither is looked at, and they are most of the files.
const LEFT_OUT: [&str; 2] = ["/usr/share/doc/*", "/usr/share/locale/*"];

/// Several tests of a process may ask for it at the same time.
static MAKING: Mutex<()> = Mutex::new(());

/// The folder of its root, of this host's release. It is made once and kept in the cache; nothing may change it. None where it
/// cannot be made.
///
/// # Panics
/// If it cannot be made in spite of all that is needed.
pub fn root() -> Option<PathBuf> {
    if !require_root() || !require("mmdebstrap", MMDEBSTRAP) {
        return None;
    }
    let _made_once = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    Some(make().unwrap_or_else(|error| panic!("a clean Debian: {error:#}")))
}

fn make() -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.context("/etc/os-release has no VERSION_CODENAME; is this Debian?")?;
    let root = cache()?.join("debian").join(suite);
    if root.exists() {
        return Ok(root);
    }
    let draft = root.with_added_extension("draft");
    // An earlier test may have been killed in the middle.
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(root.parent().unwrap_or(Path::new("/")))?;
    let mut mmdebstrap = Command::new(MMDEBSTRAP);
    mmdebstrap.args(["--mode=root", "--variant=minbase", "--format=directory"]);
    mmdebstrap.arg(format!("--include={PACKAGES}"));
    mmdebstrap.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    let output = mmdebstrap.arg(suite).arg(&draft).arg(MIRROR).output().context("starting mmdebstrap")?;
    ensure!(output.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&output.stderr));
    // The package under test has files there.
    for name in ["excludes", "99mmdebstrap"] {
        let _ = fs::remove_file(draft.join("etc/dpkg/dpkg.cfg.d").join(name));
    }
    fs::rename(&draft, &root).with_context(|| format!("naming {}", root.display()))?;
    Ok(root)
}

/// As for the kernels of `cargo xtask vm`.
fn cache() -> Result<PathBuf> {
    let folder = env::var_os("XDG_CACHE_HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let folder = folder.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    Ok(folder.context("neither XDG_CACHE_HOME nor HOME is set")?.join("hostprobe"))
}
