//! The Debian package, by Debian's own dpkg-deb.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};

use super::{machine::Machine, release::Release};
use crate::{cargo::root, nightly::output};

/// Its name and address, unless the publisher gives others. The address leads nowhere.
const MAINTAINER: (&str, &str) = ("hostprobe developers", "hostprobe@hostprobe.invalid");

/// `Name <address>`, from the variables that Debian's own tools read (`dch(1)`).
fn maintainer() -> String {
    let given = |variable, default: &str| std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    format!("{} <{}>", given("DEBFULLNAME", MAINTAINER.0), given("DEBEMAIL", MAINTAINER.1))
}

/// The changelog of the package, as `deb-changelog(5)` has it.
pub(super) fn changelog(release: &Release) -> Result<String> {
    let from = root().join("packaging/debian/changelog");
    let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
    let time = Timestamp::from_second(i64::try_from(release.epoch)?)?.to_zoned_datetime(TimeZone::UTC);
    let time = rfc2822::to_string(&time)?;
    let text = text.replace("@VERSION@", &release.version).replace("@TIME@", &time);
    Ok(text.replace("@MAINTAINER@", &maintainer()))
}

/// Builds it from the staged files, which get a folder `DEBIAN`.
pub(super) fn build(release: &Release, machine: Machine, staged: &Path) -> Result<()> {
    let size = size(staged)?.div_ceil(1024);
    let sums = sums(release, staged)?;
    let control = staged.join("DEBIAN");
    fs::create_dir_all(&control)?;
    fs::write(control.join("md5sums"), sums)?;
    fs::set_permissions(control.join("md5sums"), fs::Permissions::from_mode(0o644))?;
    for (name, mode) in
        [("control", 0o644), ("conffiles", 0o644), ("postinst", 0o755), ("prerm", 0o755), ("postrm", 0o755)]
    {
        let from = root().join("packaging/debian").join(name);
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let text = text
            .replace("@VERSION@", &release.version)
            .replace("@ARCHITECTURE@", machine.debian())
            .replace("@MAINTAINER@", &maintainer())
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

/// What `dpkg --verify` compares the installed files with (`deb-md5sums(5)`). Those in `etc` may be changed.
fn sums(release: &Release, staged: &Path) -> Result<String> {
    let mut found = Vec::new();
    walk(&staged.join("usr"), &mut found)?;
    found.sort();
    let mut md5sum = release.command("md5sum");
    for path in found {
        md5sum.arg(path.strip_prefix(staged)?);
    }
    Ok(output(md5sum.current_dir(staged))? + "\n")
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
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
