//! Builds the program that runs in the machines and on the host, and the initial file system that holds it alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::results::Run;
use crate::{
    cargo::{announce, command},
    dist::{build::for_machine, machine::Machine},
};

/// Builds the checks as a static program, because the machines have no libraries.
///
/// For this host's kind of processor, only the program itself is built for this: it shares its dependencies with `cargo
/// xtask test`.
pub fn build(machine: Machine) -> Result<PathBuf> {
    let build = ["rustc", "-p", "hostprobe-tests", "--bin", "conformance"];
    let mut build = command(&build);
    build.args(["--message-format", "json-render-diagnostics"]);
    if !machine.is_here() {
        for_machine(&mut build, machine)?;
    }
    build.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    announce(&build);
    let output = build.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the checks could not be built");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    programs.next_back().context("cargo names no program")
}

/// Writes the initial file system, whose init is a copy of `program`: the next build may replace the original.
pub fn initramfs(program: &Path, machine: Machine, scratch: &Path) -> Result<PathBuf> {
    let program = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "tmp"] {
        archive.add(folder, 0o040_755, (0, 0), &[]);
    }
    // The kernel opens it as standard output of the first process.
    archive.add("dev/console", 0o020_600, (5, 1), &[]);
    archive.add("init", 0o100_755, (0, 0), &program);
    archive.add("TRAILER!!!", 0, (0, 0), &[]);
    fs::create_dir_all(scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let path = scratch.join(format!("initramfs-{}", machine.uname()));
    fs::write(&path, archive.bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Runs the checks on this host.
pub fn run_on_host(program: &Path, record: bool) -> Result<Run> {
    let mut lines = Vec::new();
    let mut faults = Vec::new();
    for arguments in [&["checks"][..], &["types"]].into_iter().take(1 + usize::from(record)) {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        lines.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            faults.push(format!("{arguments:?} failed ({}): {}", output.status, stderr.trim()));
        }
    }
    Ok(Run { lines, faults })
}

/// An archive in the format that the kernel unpacks: `cpio`'s "new ASCII", see the kernel's
/// `Documentation/driver-api/early-userspace/buffer-format.rst`.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.files += 1;
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let links = 1;
        let fields = [
            self.files,
            mode,
            0,
            0,
            links,
            0,
            length(content.len()),
            0,
            0,
            device.0,
            device.1,
            length(name.len() + 1),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_kernels_layout() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, (0, 0), b"hello");
        let text = String::from_utf8(archive.bytes).unwrap();
        assert!(text.starts_with("07070100000001000081ed0000000000000000000000010000000000000005"));
        // The header with the name, and the content, each to a multiple of four.
        assert_eq!(&text[94..], "0000000500000000init\0\0hello\0\0\0");
    }
}
