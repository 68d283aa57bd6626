//! What the kernel's log says of the host: hung tasks, errors of disks, file systems and memory, heat, full tables.
//!
//! The wording is no interface. What is not recognized is left out. A line of the kernel may begin with a name that a user
//! chose, such as that of a process of up to 15 bytes (`comm [pid]: segfault at …`), and end with that of a file. So each form
//! is compared from its beginning, and the name in it has to be one that the kernel would write there.

use crate::{
    clock::Timestamp,
    fact::{HostCheck, HostSubject, Source},
    sensor::record::HostReport,
};

/// The longest name that is taken for one of a device.
const NAME_MAX: usize = 64;

/// `TASK_COMM_LEN` less its zero.
const COMM_MAX: usize = 15;

/// The longest part of a line that is kept.
const WORDS_MAX: usize = 256;

/// A line about the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportLine {
    pub subject: HostSubject,
    /// Nothing is left of it.
    pub exhausted: bool,
    pub words: String,
}

impl ReportLine {
    /// The same as a record, of when it was read.
    pub fn record(self, at: Timestamp) -> HostReport {
        let Self { subject, exhausted, words } = self;
        HostReport {
            at_ns: at.as_nanos(),
            source: Source::Kmsg,
            subject,
            exhausted,
            count: 1,
            words,
            device: None,
            fault: None,
            kind: None,
        }
    }
}

/// Reads a line that the kernel itself has written.
pub fn report(line: &str) -> Option<ReportLine> {
    let (check, target, exhausted) = hung_task(line)
        .or_else(|| file_system_error(line))
        .or_else(|| block_error(line))
        .or_else(|| memory_error(line))
        .or_else(|| heat(line))
        .or_else(|| full_table(line))?;
    let end = line.char_indices().map(|(at, _)| at).find(|at| *at >= WORDS_MAX).unwrap_or(line.len());
    let words = format!("the kernel reports: {}", &line[..end]);
    Some(ReportLine { subject: HostSubject { check, target: target.to_owned() }, exhausted, words })
}

type Found<'l> = (HostCheck, &'l str, bool);

/// `INFO: task NAME:PID blocked for more than 122 seconds.` (`kernel/hung_task.c`); newer kernels say what it is blocked on.
fn hung_task(line: &str) -> Option<Found<'_>> {
    let rest = line.strip_prefix("INFO: task ")?;
    let (task, rest) = rest.split_once(" blocked ")?;
    let (name, pid) = task.rsplit_once(':')?;
    let seconds = rest.split_once("for more than ")?.1.strip_suffix(" seconds.")?;
    let is_one = name.len() <= COMM_MAX && is_number(pid) && is_number(seconds);
    is_one.then_some((HostCheck::HungTask, name, false))
}

/// `I/O error, dev sda, sector 2048 op 0x0:(READ) …` (`block/blk-core.c`), `Buffer I/O error on dev dm-0, logical block 5, …`
/// (`fs/buffer.c`).
fn block_error(line: &str) -> Option<Found<'_>> {
    const KINDS: [&str; 9] = [
        "I/O error",
        "timeout error",
        "critical space allocation error",
        "recoverable transport error",
        "critical target error",
        "critical medium error",
        "protection error",
        "device offline error",
        "device resource error",
    ];
    let line =
        line.strip_prefix("blk_update_request: ").or(line.strip_prefix("print_req_error: ")).unwrap_or(line);
    let buffer = || {
        let (device, rest) = line.strip_prefix("Buffer I/O error on dev ")?.split_once(", logical block ")?;
        rest.starts_with(|it: char| it.is_ascii_digit()).then_some(device)
    };
    let request = |kind: &&str| {
        let (device, rest) = line.strip_prefix(*kind)?.strip_prefix(", dev ")?.split_once(", sector ")?;
        rest.starts_with(|it: char| it.is_ascii_digit()).then_some(device)
    };
    let device = KINDS.iter().find_map(request).or_else(buffer)?;
    // A drive without a medium says so at each look at it, and virtual machines have a floppy drive that is none.
    let is_removable = device.starts_with("fd") || device.starts_with("sr");
    (is_name(device) && !is_removable).then_some((HostCheck::BlockErrors, device, false))
}

/// `EXT4-fs error (device sda1): …`, `XFS (sda1): Corruption …`, `BTRFS error (device sda1): …`.
fn file_system_error(line: &str) -> Option<Found<'_>> {
    const DEVICE: [&str; 9] = [
        "EXT4-fs error (device ",
        "EXT3-fs error (device ",
        "EXT2-fs error (device ",
        "BTRFS error (device ",
        "BTRFS critical (device ",
        "BTRFS: error (device ",
        "FAT-fs (",
        "F2FS-fs (",
        "XFS (",
    ];
    const SAYS: [&str; 8] = [
        "orrupt",
        "shut down",
        "shutting down",
        "error",
        "emounting filesystem read-only",
        "Filesystem has been set read-only",
        "inconsistent",
        "failed",
    ];
    let (prefix, rest) = DEVICE.into_iter().find_map(|prefix| Some((prefix, line.strip_prefix(prefix)?)))?;
    let (device, rest) = rest.split_once(')')?;
    let device = device.split(" state ").next().unwrap_or(device);
    let says =
        prefix.contains("error") || prefix.contains("critical") || SAYS.iter().any(|it| rest.contains(it));
    // After a power cut or an early pull of a stick, which `fsck` mends.
    let was_left_open = rest.contains("was not properly unmounted");
    let is_one = (rest.starts_with(':') || rest.starts_with(" in ")) && !was_left_open;
    (is_one && says && is_name(device)).then_some((HostCheck::FsErrors, device, false))
}

/// Errors that were not corrected: the drivers of EDAC, the machine check handlers, and the recovery from both.
fn memory_error(line: &str) -> Option<Found<'_>> {
    let of_edac = || {
        let (controller, rest) = line.strip_prefix("EDAC ")?.split_once(": ")?;
        let (count, rest) = rest.split_once(' ')?;
        (is_name(controller) && is_number(count) && rest.starts_with("UE ")).then_some(controller)
    };
    let is_other = line.starts_with("mce: Uncorrected hardware memory error in user-access at ")
        || line.starts_with("Memory failure: 0x") && line.contains(": recovery action for ")
        || line.starts_with("mce: [Hardware Error]: Machine check: ");
    let target = of_edac().or(is_other.then_some(""))?;
    Some((HostCheck::MemoryErrors, target, false))
}

/// `thermal thermal_zone0: acpitz: critical temperature reached`, with more behind it.
fn heat(line: &str) -> Option<Found<'_>> {
    let (zone, rest) = line.strip_prefix("thermal ")?.split_once(": ")?;
    let is_one =
        zone.starts_with("thermal_zone") && is_name(zone) && rest.contains("critical temperature reached");
    is_one.then_some((HostCheck::Thermal, zone, true))
}

/// `nf_conntrack: nf_conntrack: table full, dropping packet`, `neighbour: arp_cache: neighbor table overflow!`,
/// `VFS: file-max limit 1000 reached`.
fn full_table(line: &str) -> Option<Found<'_>> {
    if line.starts_with("nf_conntrack: ") && line.ends_with("table full, dropping packet") {
        return Some((HostCheck::Conntrack, "", true));
    }
    if line.starts_with("VFS: file-max limit ") && line.ends_with(" reached") {
        return Some((HostCheck::Files, "", true));
    }
    let table = line.strip_prefix("neighbour: ")?.strip_suffix(": neighbor table overflow!")?;
    is_name(table).then_some((HostCheck::Neighbours, table, true))
}

/// A name as devices and tables of the kernel have one.
fn is_name(name: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_!.:/#".contains(&byte);
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(is_of_name)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_the_host_is_recognized() {
        for (line, check, target) in [
            (
                "INFO: task kworker/u8:3:4711 blocked for more than 122 seconds.",
                HostCheck::HungTask,
                "kworker/u8:3",
            ),
            ("INFO: task dd:9 blocked in I/O wait for more than 30 seconds.", HostCheck::HungTask, "dd"),
            (
                "I/O error, dev loop0, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
                HostCheck::BlockErrors,
                "loop0",
            ),
            ("blk_update_request: critical medium error, dev sda, sector 5", HostCheck::BlockErrors, "sda"),
            (
                "Buffer I/O error on dev dm-0, logical block 0, lost async page write",
                HostCheck::BlockErrors,
                "dm-0",
            ),
            (
                "EXT4-fs error (device loop0): ext4_find_entry:1455: inode #2: comm ls: x",
                HostCheck::FsErrors,
                "loop0",
            ),
            ("EXT4-fs error (device sda1 state EMA): y", HostCheck::FsErrors, "sda1"),
            (
                "EXT4-fs error (device sda1) in ext4_reserve_inode_write:5: Journal has aborted",
                HostCheck::FsErrors,
                "sda1",
            ),
            ("XFS (sda2): Corruption of in-memory data (0x8) detected", HostCheck::FsErrors, "sda2"),
            (
                "BTRFS: error (device nvme0n1p2) in btrfs_run_delayed_refs:2: errno=-5 IO failure",
                HostCheck::FsErrors,
                "nvme0n1p2",
            ),
            ("EDAC MC0: 1 UE memory read error on CPU_SrcID#0", HostCheck::MemoryErrors, "MC0"),
            (
                "Memory failure: 0x12345: recovery action for dirty LRU page: Recovered",
                HostCheck::MemoryErrors,
                "",
            ),
            (
                "thermal thermal_zone0: acpitz: critical temperature reached",
                HostCheck::Thermal,
                "thermal_zone0",
            ),
            ("nf_conntrack: nf_conntrack: table full, dropping packet", HostCheck::Conntrack, ""),
            ("neighbour: arp_cache: neighbor table overflow!", HostCheck::Neighbours, "arp_cache"),
            ("VFS: file-max limit 1000 reached", HostCheck::Files, ""),
        ] {
            let found = report(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.subject.check, found.subject.target.as_str()), (check, target), "{line}");
            assert_eq!(found.words, format!("the kernel reports: {line}"));
        }
    }

    #[test]
    fn what_is_ordinary_or_made_up_by_a_user_is_not() {
        for line in [
            "",
            "INFO: task dd:9 blocked for more than",
            // A floppy drive that a virtual machine only claims to have, and a discard that a disk cannot do.
            "I/O error, dev fd0, sector 0 op 0x0:(READ) flags 0x0",
            "operation not supported error, dev sda, sector 5",
            "XFS (sda2): Mounting V5 Filesystem",
            "EXT4-fs (sda1): mounted filesystem with ordered data mode",
            "FAT-fs (sda1): Volume was not properly unmounted. Some data may be corrupt. Please run fsck.",
            "EDAC MC0: 1 CE memory read error on CPU_SrcID#0",
            "EDAC MC0: Giving out device to module",
            // A process with such a name that faults in a file with such a name.
            "I/O error, dev [1234]: segfault at 0 ip 0 sp 0 error 4 in a, sector 5 op[400000+1000]",
            "INFO: task a:1 [77]: segfault at 0 ip 0 sp 0 error 4 in c:5 blocked for more than 9 seconds.",
            "EXT4-fs error ([77]: segfault at 0 ip 0 sp 0 error 4 in (device sda1): x[400000+1000]",
            "XFS (sda1): Cor[77]: segfault at 0",
        ] {
            let found = report(line);
            assert!(found.is_none() || line.starts_with("XFS (sda1): Cor["), "{line}: {found:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = format!("EXT4-fs error (device sda1): {}", "ä".repeat(1000));
        assert!(report(&line).unwrap().words.len() < 300);
    }
}
