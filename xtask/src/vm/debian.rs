//! Fetches Debian's kernels with apt, in folders of its own, so that the host's apt stays as it is.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::announce;

pub struct Kernel {
    /// Its series.
    pub name: &'static str,
    /// Mirror and suite, as in apt's source lines.
    sources: &'static [(&'static str, &'static str)],
    /// The name of its package begins with this and ends with [`FLAVOUR`].
    package: &'static str,
}

/// The smallest images, made for virtual machines.
const FLAVOUR: &str = "-cloud-amd64";

const MAIN: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The oldest first.
pub const DEBIAN: &[Kernel] = &[
    Kernel {
        name: "5.10",
        sources: &[(MAIN, "bullseye"), (SECURITY, "bullseye-security")],
        package: "linux-image-5.10.0-",
    },
    Kernel {
        name: "6.1",
        sources: &[(MAIN, "bookworm"), (SECURITY, "bookworm-security")],
        package: "linux-image-6.1.0-",
    },
    Kernel { name: "6.12", sources: &[(MAIN, "bookworm-backports")], package: "linux-image-6.12." },
    Kernel { name: "7.2", sources: &[(MAIN, "sid")], package: "linux-binary-7.2." },
];

impl Kernel {
    /// Its image, fetched now or from the cache.
    pub fn image(&self, refresh: bool) -> Result<PathBuf> {
        let folder = cache()?.join("kernels").join(self.name);
        let image = folder.join("vmlinuz");
        if !image.exists() || refresh {
            self.fetch(&folder, &image).with_context(|| {
                format!("kernel {}: cannot fetch it; copy an image of it to {}", self.name, image.display())
            })?;
        }
        Ok(image)
    }

    fn fetch(&self, folder: &Path, image: &Path) -> Result<()> {
        let apt = Apt::new(folder, self.sources)?;
        apt.run("apt-get", &["--quiet", "update"])?;
        let package = self.newest(&apt.run("apt-cache", &["pkgnames", self.package])?)?;
        // An interrupted run may have left an older package.
        let scratch = folder.join("package");
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch)?;
        apt.run_in(&scratch, "apt-get", &["--quiet", "download", package.as_str()])?;
        let archive = files(&scratch)?.into_iter().next().context("apt-get left no file")?;
        let unpacked = scratch.join("unpacked");
        let mut unpack = Command::new("dpkg-deb");
        output(unpack.arg("--extract").arg(&archive).arg(&unpacked))?;
        let found = find_image(&unpacked)?;
        let found = found.with_context(|| format!("{package} has no vmlinuz"))?;
        fs::rename(&found, image).with_context(|| format!("cannot write {}", image.display()))?;
        // The lists are larger than the images and soon out of date.
        for leftover in [scratch, folder.join("apt")] {
            fs::remove_dir_all(&leftover).with_context(|| format!("cannot remove {}", leftover.display()))?;
        }
        Ok(())
    }

    /// The newest of the packages that `apt-cache` lists.
    fn newest(&self, names: &str) -> Result<String> {
        let images = names.lines().filter(|name| name.starts_with(self.package) && name.ends_with(FLAVOUR));
        let newest = images.max_by_key(|name| order(name));
        newest.map(str::to_owned).with_context(|| {
            let suites: Vec<_> = self.sources.iter().map(|(_, suite)| *suite).collect();
            format!("no package {}*{FLAVOUR} in {}", self.package, suites.join(", "))
        })
    }
}

/// Sort key of a version: its numbers, in their order.
pub fn order(version: &str) -> Vec<u64> {
    version.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect()
}

/// Shared by all checkouts, and kept over `cargo clean`.
fn cache() -> Result<PathBuf> {
    let folder = env::var_os("XDG_CACHE_HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let folder = folder.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    Ok(folder.context("neither XDG_CACHE_HOME nor HOME is set")?.join("hostprobe"))
}

/// The kernel's image in an unpacked package. Older packages have it in `boot`, newer ones beside the modules.
fn find_image(unpacked: &Path) -> Result<Option<PathBuf>> {
    let mut folders = vec![unpacked.join("boot")];
    for modules in [unpacked.join("usr/lib/modules"), unpacked.join("lib/modules")] {
        if modules.is_dir() {
            folders.extend(files(&modules)?);
        }
    }
    for folder in folders.iter().filter(|it| it.is_dir()) {
        let is_image = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        };
        if let Some(image) = files(folder)?.into_iter().find(is_image) {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()).collect())
}

/// apt with sources, lists and archives of its own. It uses the host's network configuration.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(folder: &Path, sources: &[(&str, &str)]) -> Result<Self> {
        if !Path::new("/usr/bin/apt-get").exists() || !Path::new(KEYS).exists() {
            bail!("apt or Debian's keys are missing; install apt and debian-archive-keyring ({KEYS})");
        }
        let apt = folder.join("apt");
        fs::create_dir_all(apt.join("lists/partial"))?;
        fs::create_dir_all(apt.join("archives/partial"))?;
        let lines = sources.iter().map(|(mirror, suite)| {
            format!("deb [arch=amd64 target=Packages lang=none signed-by={KEYS}] {mirror} {suite} main\n")
        });
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
        Ok(Self { options })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run_in(Path::new("/"), program, arguments)
    }

    fn run_in(&self, folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
        let mut shown = Command::new(program);
        announce(shown.args(arguments));
        let mut command = Command::new(program);
        command.args(self.options.iter().flat_map(|option| ["-o", option])).args(arguments);
        output(command.current_dir(folder))
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_newest_image_and_names_a_missing_one() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-50-cloud-amd64\n\
                     linux-image-6.1.0-60-cloud-amd64-dbg\nlinux-image-6.1.0-70-amd64\n";
        let kernel = &DEBIAN[1];
        assert_eq!(kernel.newest(names).unwrap(), "linux-image-6.1.0-50-cloud-amd64");
        let error = kernel.newest("linux-image-6.1.0-70-amd64\n").unwrap_err().to_string();
        assert_eq!(error, "no package linux-image-6.1.0-*-cloud-amd64 in bookworm, bookworm-security");
    }

    #[test]
    fn versions_sort_by_their_numbers() {
        assert!(order("6.12.90+deb12.1-cloud") > order("6.12.90+deb12-cloud"));
        assert!(order("6.12.95") > order("6.2.1") && order("5.10.0-46") < order("6.1.0-9"));
    }
}
