//! The Debian package, by Debian's own dpkg-deb.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context, Result};

use super::{machine::Machine, release::Release};
use crate::{cargo::root, nightly::output};

/// Builds it from the staged files, which get a folder `DEBIAN`.
pub(super) fn build(release: &Release, machine: Machine, staged: &Path) -> Result<()> {
    let size = size(staged)?.div_ceil(1024);
    let control = staged.join("DEBIAN");
    fs::create_dir_all(&control)?;
    for (name, mode) in
        [("control", 0o644), ("conffiles", 0o644), ("postinst", 0o755), ("prerm", 0o755), ("postrm", 0o755)]
    {
        let from = root().join("packaging/debian").join(name);
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let text = text
            .replace("@VERSION@", &release.version)
            .replace("@ARCHITECTURE@", machine.debian())
            .replace("@INSTALLED_SIZE@", &size.to_string());
        fs::write(control.join(name), text)?;
        fs::set_permissions(control.join(name), fs::Permissions::from_mode(mode))?;
    }
    let file = release.folder.join(format!("hostprobe_{}_{}.deb", release.version, machine.debian()));
    let mut build = release.command("dpkg-deb");
    // Debian 11 reads no other compressions than these.
    build.args(["--root-owner-group", if release.quick { "-Zgzip" } else { "-Zxz" }]);
    build.args([if release.quick { "-z1" } else { "-z6" }, "--build"]);
    output(build.arg(staged).arg(file)).map(drop)
}

/// Bytes of the files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}
