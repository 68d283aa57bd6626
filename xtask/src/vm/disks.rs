//! The disks of a virtual machine: one that fails each read of a sector, and one with a damaged file system.
//!
//! Both are NVMe, whose driver is built into Debian's kernels for virtual machines.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// The sector that cannot be read, and the name of the damaged file, as `tests/src/host_faults.rs` has them.
const BAD_SECTOR: u64 = 2048;
const DAMAGED: &str = "damaged";

const SIZE: u64 = 4 << 20;

/// Makes the images in this folder, and returns the emulator's arguments for them. The failing disk is the first.
pub fn arguments(folder: &Path) -> Result<Vec<String>> {
    let (failing, damaged) = (folder.join("failing.img"), folder.join("damaged.img"));
    for image in [&failing, &damaged] {
        let file = File::create(image).with_context(|| format!("cannot write {}", image.display()))?;
        file.set_len(SIZE)?;
    }
    damage(&damaged, folder)?;
    let bad = format!(
        "driver=blkdebug,node-name=failing,image.driver=file,image.filename={},inject-error.0.event=none,\
         inject-error.0.iotype=read,inject-error.0.errno=5,inject-error.0.sector={BAD_SECTOR},inject-error.0.once=off",
        failing.display()
    );
    let good = format!("driver=file,node-name=damaged,filename={}", damaged.display());
    let words = [
        "-blockdev",
        &bad,
        "-blockdev",
        &good,
        "-device",
        "nvme,drive=failing,serial=failing",
        "-device",
        "nvme,drive=damaged,serial=damaged",
    ];
    Ok(words.map(str::to_owned).to_vec())
}

/// Makes an ext4 with a file whose inode is cleared.
fn damage(image: &Path, folder: &Path) -> Result<()> {
    let content = folder.join("content");
    fs::write(&content, "content")?;
    run(Command::new("/usr/sbin/mkfs.ext4")
        .args(["-q", "-F", "-O", "^has_journal,^metadata_csum"])
        .arg(image))?;
    for command in [format!("write {} {DAMAGED}", content.display()), format!("clri {DAMAGED}")] {
        run(Command::new("/usr/sbin/debugfs").args(["-w", "-R", &command]).arg(image))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, stderr.trim());
    Ok(())
}
