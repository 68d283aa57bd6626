//! Runs the checks in an emulated machine and reads their results over a serial line.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{disks, results::Run};
use crate::dist::machine::Machine;

/// An emulated machine takes a minute, on a busy host ten times as long.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Memory in MiB: enough for the checks, and little enough that a process uses it up soon.
const MEMORY: &str = "256";

/// All features of the emulator but the instruction `cmpxchg16b`: QEMU 7.2 corrupts the processor's flags with it, and
/// kernels of the series 6.12 fault after the next interrupt.
const X86_64: [&str; 2] = ["-cpu", "max,cx16=off"];

/// A processor of 2015, since the emulator computes the signed pointers of newer ones slowly.
const AARCH64: [&str; 4] = ["-machine", "virt", "-cpu", "cortex-a72"];

/// Debian's package of the emulator.
pub fn emulator(machine: Machine) -> &'static str {
    match machine {
        Machine::X86_64 => "qemu-system-x86",
        Machine::Aarch64 => "qemu-system-arm",
    }
}

/// The emulator for a machine, with a line for the kernel's messages and one for the results, and the kernel's name of the
/// former.
fn emulated(machine: Machine, console: &Path, folder: &Path) -> Result<(Command, &'static str)> {
    let mut qemu = Command::new(format!("/usr/bin/qemu-system-{}", machine.uname()));
    qemu.args(["-nodefaults", "-serial", &format!("file:{}", console.display())]);
    let console = match machine {
        Machine::X86_64 => {
            qemu.args(X86_64).args(["-serial", "stdio"]).args(monitor(folder)?);
            "ttyS0"
        }
        // It has one serial line of its own; others are devices on its PCI bus.
        Machine::Aarch64 => {
            qemu.args(AARCH64);
            qemu.args(["-chardev", "stdio,id=results", "-device", "pci-serial,chardev=results"]);
            "ttyAMA0"
        }
    };
    Ok((qemu, console))
}

/// The machine's third serial line is the monitor of its own emulator, by which the checks cause errors of the processor. The
/// emulator connects the two by a socket.
fn monitor(folder: &Path) -> Result<Vec<String>> {
    let socket = folder.join("monitor");
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", socket.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let socket = socket.display();
    let words = [
        "-chardev".to_owned(),
        format!("socket,id=monitor,path={socket},server=on,wait=off"),
        "-mon".to_owned(),
        "chardev=monitor,mode=readline".to_owned(),
        "-chardev".to_owned(),
        format!("socket,id=line,path={socket}"),
        "-serial".to_owned(),
        "chardev:line".to_owned(),
    ];
    Ok(words.to_vec())
}

/// Boots a kernel with the initial file system, and reads the results until the machine is off. The kernel's own messages
/// stay in `console.log` in the folder.
pub fn run(machine: Machine, kernel: &Path, initramfs: &Path, folder: &Path, record: bool) -> Result<Run> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let console = folder.join("console.log");
    let record = if record { "hostprobe.record" } else { "" };
    let (mut qemu, line) = emulated(machine, &console, folder)?;
    qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", MEMORY, "-no-reboot", "-display", "none"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    // The unified cgroup hierarchy only. A kernel that oopses reboots at once, which ends the emulator. On a busy host the
    // emulator's timer is so late at times that the kernel takes it for broken.
    let options = "cgroup_no_v1=all oops=panic panic=-1 no_timer_check";
    qemu.args(["-append", &format!("console={line} {options} {record}")]);
    qemu.args(disks::arguments(folder)?);
    let mut machine = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {:?}", qemu.get_program()))?;
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = machine.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
    }
    let mut run = Run::default();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => run.lines.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                run.faults.push(format!("the machine did not turn off within {} s", TIMEOUT.as_secs()));
                machine.kill().context("cannot end the emulator")?;
                break;
            }
        }
    }
    let output = machine.wait_with_output().context("cannot wait for the emulator")?;
    if !output.status.success() && run.faults.is_empty() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        run.faults.push(format!("the emulator failed ({}): {}", output.status, stderr.trim()));
    }
    let text = fs::read(&console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let failures = text.lines().filter(|line| line.contains("Kernel panic") || line.contains("conformance:"));
    run.faults.extend(failures.map(|line| format!("{}: {}", console.display(), line.trim())));
    Ok(run)
}
