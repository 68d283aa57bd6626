//! Archives with the same bytes for the same files.

use std::path::Path;

use anyhow::Result;

use super::{machine::Machine, release::Release};
use crate::nightly::output;

/// Writes an archive of what is below a folder: sorted, owned by root, with the time of the release.
pub(super) fn tar(release: &Release, folder: &Path, file: &Path, prefix: Option<&str>) -> Result<()> {
    let mut tar = release.command("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", release.epoch)).arg("--file").arg(file).arg("--directory").arg(folder);
    if let Some(prefix) = prefix {
        tar.arg(format!("--transform=s,^\\.,{prefix},"));
    }
    output(tar.arg(".")).map(drop)
}

/// Compresses a file in place; its name ends with `.gz` then.
pub(super) fn gzip(release: &Release, file: &Path) -> Result<()> {
    output(
        release
            .command("gzip")
            .args([if release.quick { "--fast" } else { "--best" }, "--no-name", "--force"])
            .arg(file),
    )
    .map(drop)
}

/// The archive for hosts without a package manager that we serve.
pub(super) fn release_tar(release: &Release, machine: Machine, staged: &Path) -> Result<()> {
    let name = format!("hostprobe-{}-{}", release.version, machine.triple());
    let file = release.folder.join(format!("{name}.tar"));
    tar(release, staged, &file, Some(&name))?;
    gzip(release, &file)
}
