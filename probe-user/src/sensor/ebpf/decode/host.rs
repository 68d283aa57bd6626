//! Records of faults of the host.

use std::mem::offset_of;

use probe_abi::{self as abi, FAULT_TEXT_LEN, TARGET_LEN};

use super::bytes::{Bytes, DecodeError, nonzero};
use crate::{
    fact::{HostCheck, HostFault, HostSubject, HostTask, Source},
    sensor::record::{FAULT_KIND_WORDS, HostReport},
};

/// All records begin with their header and their key.
const KEY: usize = size_of::<abi::Header>();

const _: () = {
    assert!(KEY == offset_of!(abi::HungTask, key) && KEY == offset_of!(abi::BlockError, key));
    assert!(KEY == offset_of!(abi::FileSystemError, key) && KEY == offset_of!(abi::MachineCheck, key));
    assert!(KEY == offset_of!(abi::MemoryError, key));
};

/// `SHUTDOWN_` flags of XFS (`fs/xfs/xfs_mount.h`).
const XFS_REASONS: [(u32, &str); 5] = [
    (1, "an I/O error of its metadata"),
    (2, "an I/O error of its log"),
    (8, "corruption in memory"),
    (16, "corruption on disk"),
    (32, "its device is gone"),
];

/// `MCI_STATUS_ADDRV`: the address is valid.
const ADDRESS_VALID: u64 = 1 << 58;

pub fn hung_task(bytes: &Bytes<'_>) -> Result<HostReport, DecodeError> {
    let thread = bytes.comm(offset_of!(abi::HungTask, thread_comm))?;
    let pid = bytes.u32(offset_of!(abi::HungTask, tgid))?;
    let tid = bytes.u32(offset_of!(abi::HungTask, tid))?;
    let name = bytes.comm(offset_of!(abi::HungTask, comm))?;
    let who = match (pid, tid) {
        (0, _) => format!("{thread}, a task of another pid namespace,"),
        (pid, tid) if pid == tid => format!("{thread} (pid {pid})"),
        (pid, tid) => format!("{thread} (thread {tid} of {name}, pid {pid})"),
    };
    let words =
        format!("{who} waits in the kernel and has not run for longer than kernel.hung_task_timeout_secs");
    let task = HostTask { pid, tid: nonzero(tid), name };
    let fault = HostFault { task: Some(task), ..HostFault::default() };
    report(bytes, HostCheck::HungTask, thread, words, fault)
}

pub fn block_error(bytes: &Bytes<'_>) -> Result<HostReport, DecodeError> {
    let disk = bytes.text::<TARGET_LEN>(offset_of!(abi::BlockError, disk))?;
    let sector = bytes.u64(offset_of!(abi::BlockError, sector))?;
    let length = bytes.u32(offset_of!(abi::BlockError, bytes))?;
    let operation = operation(bytes.u32(offset_of!(abi::BlockError, operation))?);
    let error = status(bytes.u32(offset_of!(abi::BlockError, status))?);
    let words = format!("{disk}: a {operation} of {length} bytes at sector {sector} failed: {error}");
    let fault = HostFault {
        operation: Some(operation),
        sector: Some(sector),
        bytes: Some(length.into()),
        error: Some(error),
        ..HostFault::default()
    };
    report(bytes, HostCheck::BlockErrors, disk, words, fault)
}

pub fn file_system(bytes: &Bytes<'_>) -> Result<HostReport, DecodeError> {
    let mounted = bytes.text::<TARGET_LEN>(offset_of!(abi::FileSystemError, target))?;
    let place = bytes.text::<FAULT_TEXT_LEN>(offset_of!(abi::FileSystemError, place))?;
    let place = format!("{place}:{}", bytes.u32(offset_of!(abi::FileSystemError, line))?);
    let flags = bytes.u32(offset_of!(abi::FileSystemError, flags))?;
    let task = HostTask {
        pid: bytes.u32(offset_of!(abi::FileSystemError, tgid))?,
        tid: None,
        name: bytes.comm(offset_of!(abi::FileSystemError, comm))?,
    };
    let by = format!("{} (pid {})", task.name, task.pid);
    let reasons: Vec<&str> =
        XFS_REASONS.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, words)| *words).collect();
    let (words, error) = if fault_number(bytes)? == abi::FAULT_XFS {
        let why = if reasons.is_empty() { format!("flags {flags:#x}") } else { reasons.join(", ") };
        (format!("{mounted}: XFS shuts the file system down: {why} (at {place}, in {by})"), Some(why))
    } else {
        (format!("{mounted}: ext4 finds an error in the file system (at {place}, in {by})"), None)
    };
    let device = bytes.u32(offset_of!(abi::FileSystemError, device))?;
    let fault = HostFault { task: Some(task), error, place: Some(place), ..HostFault::default() };
    let report = report(bytes, HostCheck::FsErrors, mounted, words, fault)?;
    // The kernel's own form of device numbers, `MINORBITS` of `linux/kdev_t.h`.
    let device = nonzero(device).map(|device| format!("{}:{}", device >> 20, device & 0xf_ffff));
    Ok(HostReport { device, ..report })
}

pub fn machine_check(bytes: &Bytes<'_>) -> Result<HostReport, DecodeError> {
    let status = bytes.u64(offset_of!(abi::MachineCheck, status))?;
    let address = bytes.u64(offset_of!(abi::MachineCheck, address))?;
    let address = (status & ADDRESS_VALID != 0).then_some(address);
    let cpu = bytes.u32(offset_of!(abi::MachineCheck, cpu))?;
    let bank = bytes.u32(offset_of!(abi::MachineCheck, bank))?;
    let words = format!(
        "CPU {cpu} reports a hardware error that it did not correct: bank {bank}, status {status:#x}{}",
        at(address)
    );
    let error = Some(format!("bank {bank}, status {status:#x}"));
    let fault = HostFault { address, error, ..HostFault::default() };
    report(bytes, HostCheck::MemoryErrors, String::new(), words, fault)
}

pub fn memory(bytes: &Bytes<'_>) -> Result<HostReport, DecodeError> {
    let address = nonzero(bytes.u64(offset_of!(abi::MemoryError, address))?);
    let errors = bytes.u32(offset_of!(abi::MemoryError, errors))?;
    let severity = match bytes.u32(offset_of!(abi::MemoryError, severity))? {
        1 => "uncorrected",
        2 => "deferred",
        _ => "fatal",
    };
    let label = bytes.text::<FAULT_TEXT_LEN>(offset_of!(abi::MemoryError, label))?;
    let message = bytes.text::<FAULT_TEXT_LEN>(offset_of!(abi::MemoryError, message))?;
    let controller = format!("MC{}", bytes.u32(offset_of!(abi::MemoryError, controller))?);
    let module = if label.is_empty() { "an unknown module".to_owned() } else { label };
    let says = if message.is_empty() { String::new() } else { format!(": {message}") };
    let words = format!("{controller}: {errors} {severity} memory errors of {module}{says}{}", at(address));
    let fault = HostFault { address, error: Some(message), place: Some(module), ..HostFault::default() };
    report(bytes, HostCheck::MemoryErrors, controller, words, fault)
}

fn at(address: Option<u64>) -> String {
    address.map(|address| format!(", address {address:#x}")).unwrap_or_default()
}

fn fault_number(bytes: &Bytes<'_>) -> Result<u32, DecodeError> {
    bytes.u32(KEY + offset_of!(abi::FaultKey, fault))
}

fn report(
    bytes: &Bytes<'_>,
    check: HostCheck,
    target: String,
    words: String,
    fault: HostFault,
) -> Result<HostReport, DecodeError> {
    let mut kind = [0; FAULT_KIND_WORDS];
    for (at, word) in kind.iter_mut().enumerate() {
        *word = bytes.u64(KEY + 8 * at)?;
    }
    Ok(HostReport {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        source: Source::Ebpf,
        subject: HostSubject { check, target },
        exhausted: false,
        count: 1,
        words,
        device: None,
        fault: Some(fault),
        kind: Some(kind),
    })
}

/// `REQ_OP_` numbers (`linux/blk_types.h`).
fn operation(number: u32) -> String {
    let word = match number {
        0 => "read",
        1 => "write",
        2 => "flush",
        3 => "discard",
        5 => "secure erase",
        7 => "zone append",
        9 => "write of zeroes",
        other => return format!("request {other}"),
    };
    word.to_owned()
}

/// `BLK_STS_` numbers (`linux/blk_types.h`), in the words of the kernel's log (`block/blk-core.c`).
fn status(number: u32) -> String {
    let word = match number {
        2 => "timeout",
        3 => "critical space allocation error",
        4 => "recoverable transport error",
        5 => "critical target error",
        7 => "critical medium error",
        8 => "protection error",
        9 => "kernel resource error",
        10 => "I/O error",
        13 => "device resource error",
        other => return format!("block status {other}"),
    };
    word.to_owned()
}
