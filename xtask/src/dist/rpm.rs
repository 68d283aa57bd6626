//! The RPM package, by rpmbuild, which Debian has as well.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{machine::Machine, release::Release, tree::Kind};
use crate::{cargo::root, nightly::output};

/// Folders that the package makes and removes. The others belong to packages of the distribution.
const OWN_FOLDERS: [&str; 4] =
    ["/etc/hostprobe", "/etc/hostprobe/conf.d", "/usr/share/doc/hostprobe", "/usr/share/hostprobe"];

/// Builds it from the staged files.
pub(super) fn build(release: &Release, machine: Machine, staged: &Path) -> Result<()> {
    let work = release.scratch.join(format!("rpmbuild-{}", machine.uname()));
    fs::create_dir_all(&work)?;
    let list = work.join("files");
    fs::write(&list, file_list(staged)?)?;
    let mut build = release.command("rpmbuild");
    build.args(["-bb", "--quiet", "--target", &format!("{}-linux", machine.uname())]);
    for (name, value) in [
        ("_binary_payload", if release.quick { "w1.gzdio" } else { "w6.xzdio" }.to_owned()),
        ("_topdir", work.display().to_string()),
        ("version", release.version.clone()),
        ("staged", staged.display().to_string()),
        ("file_list", list.display().to_string()),
    ] {
        build.args(["--define", &format!("{name} {value}")]);
    }
    output(build.arg(root().join("packaging/rpm/hostprobe.spec")))?;
    let name = format!("hostprobe-{}-1.{}.rpm", release.version, machine.uname());
    let built = work.join("RPMS").join(machine.uname()).join(&name);
    ensure!(built.exists(), "rpmbuild wrote no {}", built.display());
    fs::rename(&built, release.folder.join(name)).context("cannot move the package")
}

/// The staged files as `%files` has them. Upgrades keep what an operator has changed.
fn file_list(staged: &Path) -> Result<String> {
    let mut found = Vec::new();
    walk(staged, &mut found)?;
    found.sort();
    let mut list = "%defattr(-, root, root, 0755)\n".to_owned();
    for path in found {
        let inside = format!("/{}", path.strip_prefix(staged)?.display());
        let is_folder = path.is_dir();
        if is_folder && !OWN_FOLDERS.contains(&inside.as_str()) {
            continue;
        }
        let kind = if is_folder {
            "%dir "
        } else if inside == Kind::Rpm.options() {
            "%config(noreplace) "
        } else {
            ""
        };
        list.push_str(&format!("{kind}{inside}\n"));
    }
    Ok(list)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        }
        found.push(path);
    }
    Ok(())
}
