//! Fetches Debian's kernels.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    apt::{Apt, MAIN, SECURITY, Source, cache, files},
    dist::machine::Machine,
};

pub struct Kernel {
    /// Its series; that of another machine has the machine's name.
    pub name: &'static str,
    pub machine: Machine,
    sources: &'static [Source],
    /// The name of its package begins with this and ends with [`flavour`].
    package: &'static str,
}

/// The smallest images, made for virtual machines.
fn flavour(machine: Machine) -> String {
    format!("-cloud-{}", machine.debian())
}

/// Those of every run, the oldest first, and then that of another machine, which is run when it is named.
pub const DEBIAN: &[Kernel] = &[
    Kernel {
        name: "5.10",
        machine: Machine::X86_64,
        sources: &[(MAIN, "bullseye"), (SECURITY, "bullseye-security")],
        package: "linux-image-5.10.0-",
    },
    Kernel {
        name: "6.1",
        machine: Machine::X86_64,
        sources: &[(MAIN, "bookworm"), (SECURITY, "bookworm-security")],
        package: "linux-image-6.1.0-",
    },
    Kernel {
        name: "6.12",
        machine: Machine::X86_64,
        sources: &[(MAIN, "bookworm-backports")],
        package: "linux-image-6.12.",
    },
    Kernel { name: "7.2", machine: Machine::X86_64, sources: &[(MAIN, "sid")], package: "linux-binary-7.2." },
    Kernel {
        name: "arm64",
        machine: Machine::Aarch64,
        sources: &[(MAIN, "bookworm"), (SECURITY, "bookworm-security")],
        package: "linux-image-6.1.0-",
    },
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
        let apt = Apt::new(folder, self.machine.debian(), self.sources)?;
        let package = self.newest(&apt.names(self.package)?)?;
        let found = find_image(&apt.unpack(&package)?)?;
        let found = found.with_context(|| format!("{package} has no vmlinuz"))?;
        fs::rename(&found, image).with_context(|| format!("cannot write {}", image.display()))?;
        apt.clear()
    }

    /// The newest of the packages that `apt-cache` lists.
    fn newest(&self, names: &str) -> Result<String> {
        let flavour = flavour(self.machine);
        let images = names.lines().filter(|name| name.starts_with(self.package) && name.ends_with(&flavour));
        let newest = images.max_by_key(|name| order(name));
        newest.map(str::to_owned).with_context(|| {
            let suites: Vec<_> = self.sources.iter().map(|(_, suite)| *suite).collect();
            format!("no package {}*{flavour} in {}", self.package, suites.join(", "))
        })
    }
}

/// Sort key of a version: its numbers, in their order.
pub fn order(version: &str) -> Vec<u64> {
    version.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect()
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
        let arm64 = DEBIAN.iter().find(|it| it.name == "arm64").unwrap();
        let names = format!("{names}linux-image-6.1.0-50-cloud-arm64\n");
        assert_eq!(arm64.newest(&names).unwrap(), "linux-image-6.1.0-50-cloud-arm64");
    }

    #[test]
    fn versions_sort_by_their_numbers() {
        assert!(order("6.12.90+deb12.1-cloud") > order("6.12.90+deb12-cloud"));
        assert!(order("6.12.95") > order("6.2.1") && order("5.10.0-46") < order("6.1.0-9"));
    }
}
