//! The eBPF maps of a daemon, seen from outside: how full they are, and what they can hold.

use std::{
    collections::BTreeSet,
    ffi::c_long,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// `BPF_MAP_GET_NEXT_KEY`, `BPF_MAP_GET_FD_BY_ID` and `BPF_OBJ_GET_INFO_BY_FD` of `linux/bpf.h`.
const GET_NEXT_KEY: c_long = 4;
const GET_FD_BY_ID: c_long = 14;
const GET_INFO_BY_FD: c_long = 15;

/// `BPF_MAP_TYPE_HASH`, `PERCPU_HASH`, `LRU_HASH` and `LRU_PERCPU_HASH`: those that have a number of entries.
const HASHES: [u32; 4] = [1, 5, 9, 10];

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfMap {
    /// Its name, as far as the kernel keeps it.
    pub name: String,
    /// Its entries; None where it always has all of them, such as an array.
    pub entries: Option<u64>,
    /// The most it can have; of a ring the bytes.
    pub limit: u64,
    /// The kernel memory it takes, bytes.
    pub memory: u64,
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; 16],
}

/// The maps that a process has open, by name.
pub fn of(pid: u32) -> io::Result<Vec<BpfMap>> {
    let mut seen = BTreeSet::new();
    let mut maps = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // One that was closed meanwhile is no map of its any more.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        let Some(id) = field("map_id").and_then(|id| u32::try_from(id).ok()) else { continue };
        if seen.insert(id) {
            maps.push(look(id, field("memlock").unwrap_or_default())?);
        }
    }
    maps.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(maps)
}

fn look(id: u32, memory: u64) -> io::Result<BpfMap> {
    let fd = bpf(GET_FD_BY_ID, &mut [u64::from(id), 0])?;
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    let map = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = Info::default();
    let length = (size_of::<Info>() as u64) << 32;
    bpf(GET_INFO_BY_FD, &mut [number(&map) | length, (&raw mut info) as u64])?;
    let name = info.name.split(|&byte| byte == 0).next().unwrap_or_default();
    let entries = HASHES.contains(&info.kind).then(|| count(&map, &info));
    Ok(BpfMap {
        name: String::from_utf8_lossy(name).into_owned(),
        entries,
        limit: info.max_entries.into(),
        memory,
    })
}

/// Walks through a map. What changes on the way may be counted twice or not at all.
fn count(map: &OwnedFd, info: &Info) -> u64 {
    let mut key = vec![0_u8; info.key_size as usize];
    let mut next = key.clone();
    let mut from = 0_u64;
    for seen in 0..info.max_entries {
        if bpf(GET_NEXT_KEY, &mut [number(map), from, next.as_mut_ptr() as u64]).is_err() {
            return seen.into();
        }
        std::mem::swap(&mut key, &mut next);
        from = key.as_ptr() as u64;
    }
    info.max_entries.into()
}

fn number(map: &OwnedFd) -> u64 {
    u64::from(map.as_raw_fd().cast_unsigned())
}

/// `bpf(2)` with an attribute of these words.
pub(crate) fn bpf(command: c_long, attribute: &mut [u64]) -> io::Result<i32> {
    // SAFETY: the words are what the command expects, and point to buffers that outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size_of_val(attribute)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
