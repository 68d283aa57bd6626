//! Debian's packages for any of its machines, fetched with apt in folders of its own, so that the host's apt stays as it is.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::announce;

/// Mirror and suite, as in apt's source lines.
pub type Source = (&'static str, &'static str);

pub const MAIN: &str = "http://deb.debian.org/debian";
pub const SECURITY: &str = "http://deb.debian.org/debian-security";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Shared by all checkouts, and kept over `cargo clean`.
pub fn cache() -> Result<PathBuf> {
    let folder = env::var_os("XDG_CACHE_HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let folder = folder.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    Ok(folder.context("neither XDG_CACHE_HOME nor HOME is set")?.join("hostprobe"))
}

/// apt with sources, lists and archives of its own. It uses the host's network configuration.
pub struct Apt {
    options: Vec<String>,
    /// Where it keeps its lists.
    lists: PathBuf,
    /// Where packages are unpacked.
    scratch: PathBuf,
}

impl Apt {
    /// Fetches the lists. `architecture` is Debian's name of a machine.
    pub fn new(folder: &Path, architecture: &str, sources: &[Source]) -> Result<Self> {
        if !Path::new("/usr/bin/apt-get").exists() || !Path::new(KEYS).exists() {
            bail!("apt or Debian's keys are missing; install apt and debian-archive-keyring ({KEYS})");
        }
        let apt = folder.join("apt");
        fs::create_dir_all(apt.join("lists/partial"))?;
        fs::create_dir_all(apt.join("archives/partial"))?;
        let options = format!("arch={architecture} target=Packages lang=none signed-by={KEYS}");
        let lines = sources.iter().map(|(mirror, suite)| format!("deb [{options}] {mirror} {suite} main\n"));
        fs::write(apt.join("sources.list"), lines.collect::<String>())?;
        fs::write(apt.join("status"), "")?;
        let options = [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::Status", "status"),
            ("Dir::Cache", ""),
            ("Dir::Cache::Archives", "archives"),
        ];
        let mut options: Vec<_> =
            options.iter().map(|(name, file)| format!("{name}={}", apt.join(file).display())).collect();
        // The folders belong to this user: apt must not drop to its own.
        options.extend(["Dir::Etc::SourceParts=-", "APT::Sandbox::User="].map(str::to_owned));
        options.push(format!("APT::Architecture={architecture}"));
        let apt = Self { options, lists: apt, scratch: folder.join("package") };
        apt.run(Path::new("/"), "apt-get", &["--quiet", "update"])?;
        Ok(apt)
    }

    /// The names of the packages whose names begin so, a line each.
    pub fn names(&self, prefix: &str) -> Result<String> {
        self.run(Path::new("/"), "apt-cache", &["pkgnames", prefix])
    }

    /// Fetches a package, and unpacks it into a folder.
    pub fn unpack(&self, package: &str) -> Result<PathBuf> {
        // An interrupted run may have left an older package.
        let _ = fs::remove_dir_all(&self.scratch);
        fs::create_dir_all(&self.scratch)?;
        self.run(&self.scratch, "apt-get", &["--quiet", "download", package])?;
        let archive = files(&self.scratch)?.into_iter().next().context("apt-get left no file")?;
        let unpacked = self.scratch.join("unpacked");
        let mut unpack = Command::new("dpkg-deb");
        output(unpack.arg("--extract").arg(&archive).arg(&unpacked))?;
        Ok(unpacked)
    }

    /// Deletes what was unpacked, and the lists, which are larger than most packages and soon out of date.
    pub fn clear(self) -> Result<()> {
        for leftover in [self.scratch, self.lists] {
            fs::remove_dir_all(&leftover).with_context(|| format!("cannot remove {}", leftover.display()))?;
        }
        Ok(())
    }

    fn run(&self, folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
        let mut shown = Command::new(program);
        announce(shown.args(arguments));
        let mut command = Command::new(program);
        command.args(self.options.iter().flat_map(|option| ["-o", option])).args(arguments);
        output(command.current_dir(folder))
    }
}

/// The entries of a folder.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()).collect())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
