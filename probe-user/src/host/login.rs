//! The login that a process descends from: its user, and its terminal.

use super::{ProcReader, read_text};

/// The kernel's "no login" (`AUDIT_UID_UNSET` in `include/linux/audit.h`).
const UNSET: u32 = u32::MAX;

/// The majors of the terminals of `devpts`, with 256 each (`Documentation/admin-guide/devices.txt`).
const PTS: std::ops::RangeInclusive<u32> = 136..=143;

impl ProcReader {
    /// The user of the login that a process descends from: `Some(None)` if it descends from none, None if that cannot be
    /// read, as of a process that has ended.
    pub fn login_user(&self, pid: u32) -> Option<Option<u32>> {
        let text = read_text(&self.folder(pid).join("loginuid"), 64).ok()?;
        let id: u32 = text.trim().parse().ok()?;
        Some((id != UNSET).then_some(id))
    }

    /// The name of the terminal that controls a process: `Some(None)` if none does, None if the process is gone. One that has
    /// ended has it until its parent has read how it ended.
    pub fn terminal(&self, pid: u32) -> Option<Option<String>> {
        let device = u32::try_from(self.stat(pid)?.tty_nr).unwrap_or_default();
        Some((device != 0).then(|| terminal_name(device)))
    }
}

/// The name of a terminal by its device number, as `/proc/PID/stat` has it (`new_encode_dev` in `include/linux/kdev_t.h`).
fn terminal_name(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match (major, minor) {
        (4, minor @ 0..64) => format!("tty{minor}"),
        (4, minor) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".to_owned(),
        (204, minor @ 64..) => format!("ttyAMA{}", minor - 64),
        (229, minor) => format!("hvc{minor}"),
        (major, minor) if PTS.contains(&major) => format!("pts/{}", (major - PTS.start()) * 256 + minor),
        (major, minor) => format!("terminal {major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_terminal_has_the_name_that_people_know() {
        assert_eq!(terminal_name(136 << 8 | 3), "pts/3");
        assert_eq!(terminal_name(137 << 8 | 4), "pts/260");
        // The minor's upper bits come after the major.
        assert_eq!(terminal_name(136 << 8 | 1 << 20), "pts/256");
        assert_eq!(terminal_name(4 << 8 | 1), "tty1");
        assert_eq!(terminal_name(4 << 8 | 64), "ttyS0");
        assert_eq!(terminal_name(5 << 8 | 1), "console");
        assert_eq!(terminal_name(250 << 8 | 7), "terminal 250:7");
    }

    #[test]
    fn a_process_without_a_login_differs_from_one_that_has_ended() {
        let host = FakeHost::v2();
        host.process(42, 7, "systemctl", "/usr/bin/systemctl");
        host.write("proc/42/loginuid", b"1000");
        assert_eq!(host.reader().login_user(42), Some(Some(1000)));
        host.write("proc/42/loginuid", b"4294967295");
        assert_eq!(host.reader().login_user(42), Some(None));
        assert_eq!(host.reader().terminal(42), Some(None));
        host.write("proc/42/loginuid", b"garbage");
        assert_eq!(host.reader().login_user(42), None);
        assert_eq!((host.reader().login_user(43), host.reader().terminal(43)), (None, None));
    }
}
