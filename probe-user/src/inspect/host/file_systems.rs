//! The file systems: space, inodes, writes.
//!
//! `statvfs` of a file system that does not answer blocks for ever, and its thread with it. So the round in which that
//! happens is given up, and later ones leave that file system out until the call returns.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::{StatVfs, statvfs};

use super::{fill_rate::FillRate, measure::Measured};
use crate::{
    clock::Timestamp,
    config::{FileSystemOptions, HostOptions},
    fact::HostCheck,
    host::{
        ProcReader,
        mount::{Mount, Storage, file_systems},
    },
};

/// Further file systems are left out.
const MOST: usize = 256;

/// So many that do not answer, and no further one of a server is asked: each holds a thread.
const BLOCKED_MAX: usize = 8;

/// With less than so many bytes left, a full file system takes no more data: PostgreSQL needs 16 MiB at once for its log. A
/// small one, as that of a boot loader, has never more left: there, less than this share counts.
const EXHAUSTED_SHARE: f64 = 0.05;
const EXHAUSTED_BYTES: u64 = 32 << 20;

/// File systems that reserve blocks for root and count them as free (`f_bfree`), not as available (`f_bavail`). Others have
/// reserves of their own there, which no user can write to.
const WITH_RESERVE: [&str; 4] = ["ext2", "ext3", "ext4", "f2fs"];

/// With so much of it free, the reserve is room for the services of root. It is 5 % by default.
const ROOM_OF_RESERVE: f64 = 0.01;

/// What was seen of the file systems before.
#[derive(Debug, Default)]
pub struct FileSystemsPast {
    by_device: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// It took writes when it was first seen.
    began_writable: Option<bool>,
    /// It was told to be full soon. The estimate varies, so it takes a longer one to end that.
    fills: bool,
    rate: FillRate,
}

/// The calls that are under way, and those that do not return.
#[derive(Debug, Default)]
pub struct Calls {
    state: Mutex<CallState>,
}

#[derive(Debug, Default)]
struct CallState {
    current: Option<(u64, Call)>,
    blocked: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Call {
    device: String,
    point: String,
    since: Timestamp,
}

impl Calls {
    fn locked<T>(&self, change: impl FnOnce(&mut CallState) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives up the call of a round if it has lasted for so long. Returns the mount point.
    pub fn give_up(&self, round: u64, patience: Duration, now: Timestamp) -> Option<String> {
        self.locked(|state| {
            let (of, call) = state.current.as_ref()?;
            if *of != round || now.since(call.since) < patience {
                return None;
            }
            let (_, call) = state.current.take()?;
            state.blocked.insert(call.device, call.point.clone());
            Some(call.point)
        })
    }

    /// Asks for the numbers of a file system. An error if the round was given up meanwhile.
    fn ask(&self, round: u64, mount: &Mount, root: &Path) -> Result<Option<StatVfs>, GivenUp> {
        let is_blocked = self.locked(|state| {
            let may_block = mount.storage() == Storage::Remote && state.blocked.len() >= BLOCKED_MAX;
            let is_blocked = state.blocked.contains_key(&mount.device) || may_block;
            if !is_blocked {
                let (device, point) = (mount.device.clone(), mount.point.clone());
                state.current = Some((round, Call { device, point, since: Timestamp::now() }));
            }
            is_blocked
        });
        if is_blocked {
            return Ok(None);
        }
        let point = mount.point.as_str();
        // Without the right to look through the first process, the daemon's own view has to do.
        let numbers = statvfs(root.join(point.trim_start_matches('/'))).or_else(|_| statvfs(point)).ok();
        self.locked(|state| {
            if state.current.as_ref().is_some_and(|(of, _)| *of == round) {
                state.current = None;
                return Ok(numbers);
            }
            state.blocked.remove(&mount.device);
            Err(GivenUp)
        })
    }
}

/// The round has lasted too long, and another one has begun.
#[derive(Debug)]
pub struct GivenUp;

/// A file system that is checked, and its numbers; None if it was not asked, or gave none.
pub type Asked = (Mount, Option<StatVfs>);

/// Asks all file systems that have limits. It blocks for as long as one does not answer.
pub fn ask_all(
    reader: &ProcReader,
    options: &HostOptions,
    calls: &Calls,
    round: u64,
) -> Result<Vec<Asked>, GivenUp> {
    let (mounts, root) = reader.mounts().unwrap_or_default();
    let checked = file_systems(mounts).into_iter().filter(|mount| limits(mount, options).is_some());
    let ask = |mount: Mount| {
        let numbers = if mount.takes_no_writes { None } else { calls.ask(round, &mount, &root)? };
        Ok((mount, numbers))
    };
    checked.take(MOST).map(ask).collect()
}

/// Whether the space of a file system is as unknown as before this round.
pub fn is_unread((mount, numbers): &Asked) -> bool {
    numbers.is_none() && !mount.takes_no_writes
}

impl FileSystemsPast {
    pub fn measure(&mut self, asked: &[Asked], options: &HostOptions, now: Timestamp) -> Vec<Measured> {
        let mut found = Vec::new();
        for (mount, numbers) in asked {
            let Some(limits) = limits(mount, options) else { continue };
            let known = self.by_device.entry(mount.device.clone()).or_default();
            found.extend(known.writes(mount, limits));
            if let Some(numbers) = numbers.as_ref().filter(|numbers| numbers.f_blocks > 0) {
                found.extend(known.space(mount, limits, numbers, now));
                found.extend(inodes(mount, limits, numbers));
            }
        }
        let devices: BTreeSet<&str> = asked.iter().map(|(mount, _)| mount.device.as_str()).collect();
        self.by_device.retain(|device, _| devices.contains(device.as_str()));
        found
    }
}

/// The limits of a mount; None if it is not checked. `"*"` stands for what is on disks and servers, and for the root.
fn limits<'o>(mount: &Mount, options: &'o HostOptions) -> Option<&'o FileSystemOptions> {
    let (limits, is_named) = options.file_system(&mount.point)?;
    let is_meant = match mount.storage() {
        Storage::Disk | Storage::Remote => true,
        Storage::Memory | Storage::Layers => is_named || mount.point == "/",
        Storage::Other => false,
    };
    is_meant.then_some(limits)
}

impl Known {
    fn writes(&mut self, mount: &Mount, limits: &FileSystemOptions) -> Option<Measured> {
        let began_writable = *self.began_writable.get_or_insert(!mount.takes_no_writes);
        if !limits.read_only {
            return None;
        }
        // After an error the kernel changes the file system alone. A remount changes the mount as well, and fails while a
        // file is open for writing.
        let by_kernel = mount.takes_no_writes && !mount.is_read_only;
        let became = by_kernel || mount.takes_no_writes && began_writable;
        let (point, source) = (&mount.point, &mount.source);
        let words = if by_kernel {
            format!(
                "{point} ({source}) was writable and is read-only: look for errors of it in the kernel's log"
            )
        } else if became {
            format!("{point} ({source}) was writable until it was remounted read-only")
        } else {
            format!("{point} ({source}) is writable")
        };
        Some(Measured {
            target: point.clone(),
            exhausted: by_kernel && began_writable,
            device: Some(mount.device.clone()),
            ..Measured::of_host(HostCheck::ReadOnly, f64::from(u8::from(became)), 1.0, words)
        })
    }

    fn space(
        &mut self,
        mount: &Mount,
        limits: &FileSystemOptions,
        numbers: &StatVfs,
        now: Timestamp,
    ) -> Option<Measured> {
        let bytes = |blocks: u64| blocks.saturating_mul(numbers.f_frsize);
        let used = bytes(numbers.f_blocks.saturating_sub(numbers.f_bfree));
        // As df: what only root may use is neither used nor left.
        let left = bytes(numbers.f_bavail);
        let whole = used.saturating_add(left);
        let percent = share(used, whole);
        self.rate.add(now, used);
        let most = limits.time_to_full.map(|most| if self.fills { most + most / 4 } else { most });
        let time_left =
            self.rate.time_left(left).filter(|time_left| most.is_some_and(|most| *time_left <= most));
        self.fills = time_left.is_some();
        let limit = limits.percent.or(limits.time_to_full.map(|_| 100.0))?;
        let is_low = left < EXHAUSTED_BYTES && (left as f64) < whole as f64 * EXHAUSTED_SHARE;
        let reserve = if WITH_RESERVE.contains(&mount.kind.as_str()) { bytes(numbers.f_bfree) } else { 0 };
        let root_has_room =
            reserve >= EXHAUSTED_BYTES || reserve as f64 > bytes(numbers.f_blocks) as f64 * ROOM_OF_RESERVE;
        let soon = time_left.map_or_else(String::new, |time_left| {
            format!(", and will be full in {} min at its rate of the last hour", time_left.as_secs() / 60)
        });
        let words = format!(
            "{} ({}) is {percent:.0} % full: {} of {} are left{soon}",
            mount.point,
            mount.source,
            size(left),
            size(whole)
        );
        Some(Measured {
            target: mount.point.clone(),
            time_left,
            exhausted: percent >= limit && is_low,
            root_has_room,
            device: Some(mount.device.clone()),
            ..Measured::of_host(HostCheck::Space, percent, limit, words)
        })
    }
}

fn inodes(mount: &Mount, limits: &FileSystemOptions, numbers: &StatVfs) -> Option<Measured> {
    // Some make inodes as they need them, and show none.
    let limit = limits.inodes_percent.filter(|_| numbers.f_files > 0)?;
    let used = numbers.f_files.saturating_sub(numbers.f_ffree);
    let left = numbers.f_favail;
    let percent = share(used, used.saturating_add(left));
    let words = format!(
        "{} ({}) uses {percent:.0} % of its inodes: {left} further files fit",
        mount.point, mount.source
    );
    Some(Measured {
        target: mount.point.clone(),
        exhausted: left == 0,
        device: Some(mount.device.clone()),
        ..Measured::of_host(HostCheck::Inodes, percent, limit, words)
    })
}

fn share(used: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { used as f64 * 100.0 / whole as f64 }
}

/// Such as "1.5 GiB".
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    fn measure(past: &mut FileSystemsPast, host: &FakeHost, calls: &Calls) -> Vec<Measured> {
        let options = HostOptions::default();
        past.measure(&ask_all(&host.reader(), &options, calls, 1).unwrap(), &options, Timestamp::now())
    }

    #[test]
    fn a_file_system_that_does_not_answer_is_left_out_until_it_does() {
        let (calls, now) = (Calls::default(), Timestamp::now());
        let mount = Mount {
            id: 1,
            device: "0:42".to_owned(),
            root: "/".to_owned(),
            point: "/nfs".to_owned(),
            is_read_only: false,
            kind: "nfs4".to_owned(),
            source: "server:/x".to_owned(),
            takes_no_writes: false,
            is_of_user: false,
        };
        let call = Call { device: mount.device.clone(), point: "/nfs".to_owned(), since: now };
        calls.locked(|state| state.current = Some((1, call)));
        let patience = Duration::from_secs(5);
        assert_eq!(calls.give_up(1, patience, now), None);
        assert_eq!(calls.give_up(2, patience, now.plus(patience)), None, "that is another round's");
        assert_eq!(calls.give_up(1, patience, now.plus(patience)).as_deref(), Some("/nfs"));
        assert!(calls.ask(2, &mount, Path::new("/")).unwrap().is_none(), "it is not asked");
        assert!(is_unread(&(mount, None)));
    }

    #[test]
    fn beside_many_that_do_not_answer_no_further_server_is_asked_and_no_incident_of_it_ends() {
        let host = FakeHost::v2();
        let mounts = "31 27 0:42 / /nfs rw - nfs4 server:/x rw\n32 27 254:1 / / rw - ext4 /dev/vdb rw\n";
        host.write("proc/self/mountinfo", mounts.as_bytes());
        let (calls, options) = (Calls::default(), HostOptions::default());
        let blocked = (0..BLOCKED_MAX).map(|number| (format!("0:{number}"), format!("/mnt/{number}")));
        calls.locked(|state| state.blocked.extend(blocked));
        let asked = ask_all(&host.reader(), &options, &calls, 1).unwrap();
        let unread: Vec<&str> =
            asked.iter().filter(|it| is_unread(it)).map(|(mount, _)| mount.point.as_str()).collect();
        assert_eq!((asked.len(), unread), (2, vec!["/nfs"]));
    }

    #[test]
    fn one_that_became_read_only_is_told_from_one_that_was_mounted_so() {
        let host = FakeHost::v2();
        let line = |options: &str, of_super: &str| {
            format!("31 27 254:99 / /no/such rw - ext4 /dev/vdb {of_super}\n")
                .replace(" rw -", &format!(" {options} -"))
        };
        let table = |options: &str, of_super: &str| {
            host.write("proc/self/mountinfo", line(options, of_super).as_bytes())
        };
        let (mut past, calls) = (FileSystemsPast::default(), Calls::default());
        // Whether it is bad, and whether services that write to it wait.
        let seen = |past: &mut FileSystemsPast, options: &str, of_super: &str| {
            table(options, of_super);
            let found = measure(past, &host, &calls);
            let found = found.iter().find(|it| it.check == HostCheck::ReadOnly).unwrap();
            (found.value >= found.limit, found.exhausted)
        };
        assert_eq!(seen(&mut past, "rw", "rw"), (false, false));
        assert_eq!(seen(&mut past, "rw", "ro"), (true, true), "after an error");
        assert_eq!(seen(&mut past, "rw", "rw"), (false, false));
        assert_eq!(seen(&mut past, "ro", "ro"), (true, false), "remounted");
        let mut past = FileSystemsPast::default();
        assert_eq!(seen(&mut past, "ro", "ro"), (false, false), "it was mounted so");
        assert_eq!(seen(&mut past, "rw", "rw"), (false, false), "for an upgrade");
        assert_eq!(seen(&mut past, "ro", "ro"), (false, false), "and is as it was");
    }

    /// A file system of 1000 MiB with so many MiB free, and available to all.
    fn full(kind: &str, free: u64, available: u64) -> (bool, bool) {
        let mount = Mount {
            id: 1,
            device: "254:1".to_owned(),
            root: "/".to_owned(),
            point: "/data".to_owned(),
            is_read_only: false,
            kind: kind.to_owned(),
            source: "/dev/vdb".to_owned(),
            takes_no_writes: false,
            is_of_user: false,
        };
        let numbers = StatVfs {
            f_bsize: 1 << 20,
            f_frsize: 1 << 20,
            f_blocks: 1000,
            f_bfree: free,
            f_bavail: available,
            f_files: 0,
            f_ffree: 0,
            f_favail: 0,
            f_fsid: 0,
            f_flag: rustix::fs::StatVfsMountFlags::empty(),
            f_namemax: 255,
        };
        let options = FileSystemOptions { percent: Some(90.0), ..FileSystemOptions::default() };
        let space = Known::default().space(&mount, &options, &numbers, Timestamp::now()).unwrap();
        (space.exhausted, space.root_has_room)
    }

    #[test]
    fn what_is_reserved_for_root_is_room_for_root_alone() {
        assert_eq!(full("ext4", 50, 0), (true, true));
        assert_eq!(full("ext4", 15, 0), (true, true), "a reserve of which some is left");
        assert_eq!(full("ext4", 5, 0), (true, false));
        assert_eq!(full("ext4", 0, 0), (true, false));
        assert_eq!(full("xfs", 50, 0), (true, false), "no user can write to its reserve");
        assert_eq!(full("ext4", 400, 350), (false, true));
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([size(0), size(1536), size(3 << 40)], ["0.0 B", "1.5 KiB", "3.0 TiB"]);
    }
}
