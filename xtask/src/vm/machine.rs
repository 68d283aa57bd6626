//! A virtual machine: a kernel, the checks, and the line they talk over.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::results::Run;

/// Emulated, a machine takes half a minute, on a busy host twice as long.
const PATIENCE: Duration = Duration::from_secs(240);

/// Memory in MiB: enough for the checks, and soon used up.
const MEMORY: &str = "256";

/// All that the emulator can do but one instruction, `cmpxchg16b`: QEMU 7.2 spoils the processor's flags with it, and kernels
/// of the series 6.12 come to a fault after the next interrupt.
const PROCESSOR: &str = "max,cx16=off";

/// Boots a kernel with the initial file system, and reads what it says until it is off. The kernel's own messages are left
/// in the folder.
pub fn run(kernel: &Path, initramfs: &Path, folder: &Path, record: bool) -> Result<Run> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let console = folder.join("console.log");
    let record = if record { "hostprobe.record" } else { "" };
    let mut qemu = Command::new("/usr/bin/qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-smp", "2", "-m", MEMORY]);
    qemu.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    // One hierarchy; and a kernel that fails ends at once.
    qemu.args(["-append", &format!("console=ttyS0 cgroup_no_v1=all oops=panic panic=-1 {record}")]);
    qemu.args(["-serial", &format!("file:{}", console.display()), "-serial", "stdio"]);
    let mut machine = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {:?}", qemu.get_program()))?;
    let (said, heard) = mpsc::channel();
    if let Some(output) = machine.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let _ = said.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
    }
    let mut run = Run::default();
    let until = Instant::now() + PATIENCE;
    loop {
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => run.lines.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                run.complaints.push(format!("not off after {} s", PATIENCE.as_secs()));
                machine.kill().context("cannot end the emulator")?;
                break;
            }
        }
    }
    let output = machine.wait_with_output().context("cannot wait for the emulator")?;
    if !output.status.success() && run.complaints.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        run.complaints.push(format!("the emulator failed ({}): {}", output.status, said.trim()));
    }
    let text = fs::read(&console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let failures = text.lines().filter(|line| line.contains("Kernel panic") || line.contains("conformance:"));
    run.complaints.extend(failures.map(|line| format!("{}: {}", console.display(), line.trim())));
    Ok(run)
}
