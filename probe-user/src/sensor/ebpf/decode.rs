//! Decodes the bytes of the rings into records.
//!
//! Fields are read by offset and never by casting, because unchecked bytes have no Rust type.

use std::mem::offset_of;

use probe_abi as abi;

use crate::{
    fact::{OomScope, Source},
    sensor::record::{
        CgroupMade, Exec, Exit, Image, Listen, Oom, ReceivedSignal, Record, Sender, Signal, Status,
    },
};

mod bytes;
mod crash;
mod host;
mod socket;
#[cfg(test)]
pub(super) mod tests;

pub use bytes::DecodeError;
pub use socket::address;

use bytes::{Bytes, nonzero};

/// The limit of an unlimited memory cgroup is above this: it is the most pages that the kernel can count
/// (`PAGE_COUNTER_MAX`), of up to 64 KiB each. No machine has this many.
const UNLIMITED_PAGES: u64 = 1 << 46;

/// Decodes one record. Never panics.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let bytes = Bytes(bytes);
    let kind = bytes.u32(offset_of!(abi::Header, kind))?;
    let size = bytes.u32(offset_of!(abi::Header, size))?;
    let check = |want: usize| {
        let have = bytes.len();
        let fits = have == want && usize::try_from(size) == Ok(want);
        if fits { Ok(()) } else { Err(DecodeError::Size { kind, have, says: size, want }) }
    };
    match kind {
        abi::KIND_EXIT => check(size_of::<abi::Exit>()).and_then(|()| exit(&bytes)).map(Record::Exit),
        abi::KIND_OOM => check(size_of::<abi::Oom>()).and_then(|()| oom(&bytes)).map(Record::Oom),
        abi::KIND_EXEC => check(size_of::<abi::Exec>()).and_then(|()| exec(&bytes)).map(Record::Exec),
        abi::KIND_LISTEN => check(size_of::<abi::Listen>()).and_then(|()| listen(&bytes)).map(Record::Listen),
        abi::KIND_SOCKET_ERROR => {
            check(size_of::<abi::SocketError>()).and_then(|()| socket::error(&bytes)).map(Record::SocketError)
        }
        abi::KIND_CONNECT => {
            check(size_of::<abi::Connect>()).and_then(|()| socket::connect(&bytes)).map(Record::Connect)
        }
        abi::KIND_ACCEPT_QUEUE => {
            check(size_of::<abi::AcceptQueue>()).and_then(|()| socket::queue(&bytes)).map(Record::AcceptQueue)
        }
        abi::KIND_STOP => {
            check(size_of::<abi::ReceivedSignal>()).and_then(|()| received(&bytes)).map(Record::Stop)
        }
        abi::KIND_CORE_SIGNAL => check(size_of::<abi::ReceivedSignal>())
            .and_then(|()| received(&bytes))
            .map(|received| Record::CoreSignal(received, None)),
        abi::KIND_CRASH => {
            check(size_of::<abi::Crash>())?;
            Ok(Record::CoreSignal(crashed(&bytes)?, Some(Box::new(crash::stack(&bytes)?))))
        }
        abi::KIND_CRASH_MEMORY => check(size_of::<abi::CrashMemory>())
            .and_then(|()| crash::memory(&bytes))
            .map(|memory| Record::CrashMemory(Box::new(memory))),
        abi::KIND_CGROUP => {
            check(size_of::<abi::CgroupMade>()).and_then(|()| cgroup(&bytes)).map(Record::Cgroup)
        }
        abi::KIND_HUNG_TASK => {
            check(size_of::<abi::HungTask>()).and_then(|()| host::hung_task(&bytes)).map(Record::Host)
        }
        abi::KIND_BLOCK_ERROR => {
            check(size_of::<abi::BlockError>()).and_then(|()| host::block_error(&bytes)).map(Record::Host)
        }
        abi::KIND_FILE_SYSTEM_ERROR => check(size_of::<abi::FileSystemError>())
            .and_then(|()| host::file_system(&bytes))
            .map(Record::Host),
        abi::KIND_MACHINE_CHECK => {
            check(size_of::<abi::MachineCheck>()).and_then(|()| host::machine_check(&bytes)).map(Record::Host)
        }
        abi::KIND_MEMORY_ERROR => {
            check(size_of::<abi::MemoryError>()).and_then(|()| host::memory(&bytes)).map(Record::Host)
        }
        other => Err(DecodeError::Kind(other)),
    }
}

fn exit(bytes: &Bytes<'_>) -> Result<Exit, DecodeError> {
    let flags = bytes.u32(offset_of!(abi::Exit, flags))?;
    Ok(Exit {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        source: Source::Ebpf,
        start_ns: bytes.u64(offset_of!(abi::Exit, start_ns))?,
        pid: bytes.u32(offset_of!(abi::Exit, tgid))?,
        parent_pid: bytes.u32(offset_of!(abi::Exit, ppid))?,
        namespaced_pid: nonzero(bytes.u32(offset_of!(abi::Exit, ns_pid))?),
        lineage: nonzero(bytes.u32(offset_of!(abi::Exit, lineage))?),
        uid: bytes.u32(offset_of!(abi::Exit, uid))?,
        status: Status(Some(bytes.u32(offset_of!(abi::Exit, status))?)),
        oom_victim: flags & abi::EXIT_OOM_VICTIM != 0,
        watched: flags & abi::WATCHED != 0,
        child_of_init: flags & abi::EXIT_CHILD_OF_INIT != 0,
        namespace_init: flags & abi::EXIT_NAMESPACE_INIT != 0,
        max_rss_pages: bytes.u64(offset_of!(abi::Exit, max_rss_pages))?,
        cgroups: bytes.cgroups(offset_of!(abi::Exit, cgroup_v2), offset_of!(abi::Exit, cgroup_mem_v1))?,
        comm: bytes.comm(offset_of!(abi::Exit, comm))?,
        signal: signal(bytes, offset_of!(abi::Exit, signal))?,
    })
}

fn signal(bytes: &Bytes<'_>, at: usize) -> Result<Option<Signal>, DecodeError> {
    let number = bytes.u32(at + offset_of!(abi::SentSignal, signal))?;
    if number == 0 {
        return Ok(None);
    }
    let from_process = bytes.u32(at + offset_of!(abi::SentSignal, origin))? == abi::ORIGIN_USER;
    let sender = Sender {
        pid: bytes.u32(at + offset_of!(abi::SentSignal, sender_tgid))?,
        uid: bytes.u32(at + offset_of!(abi::SentSignal, sender_uid))?,
        start_ns: bytes.u64(at + offset_of!(abi::SentSignal, sender_start_ns))?,
        cgroup_v2: nonzero(bytes.u64(at + offset_of!(abi::SentSignal, sender_cgroup_v2))?),
        comm: bytes.comm(at + offset_of!(abi::SentSignal, sender_comm))?,
    };
    Ok(Some(Signal {
        at_ns: bytes.u64(at + offset_of!(abi::SentSignal, at_ns))?,
        number,
        context_pid: sender.pid,
        code: bytes.i32(at + offset_of!(abi::SentSignal, code))?,
        sender: from_process.then_some(sender),
    }))
}

fn oom(bytes: &Bytes<'_>) -> Result<Oom, DecodeError> {
    let victim_known = bytes.u32(offset_of!(abi::Oom, flags))? & abi::OOM_VICTIM_KNOWN != 0;
    let mut stack = Vec::with_capacity(abi::STACK_FRAMES);
    for index in 0..abi::STACK_FRAMES {
        stack.extend(nonzero(bytes.u64(offset_of!(abi::Oom, stack) + 8 * index)?));
    }
    let limit = |level: usize| bytes.u64(offset_of!(abi::Oom, limit_pages) + 8 * level);
    let mut limit_pages = None;
    for level in 0..abi::LIMIT_LEVELS {
        let limited = nonzero(limit(level)?).filter(|pages| *pages < UNLIMITED_PAGES);
        limit_pages = limited.into_iter().chain(limit_pages).min();
    }
    Ok(Oom {
        limit_pages,
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        source: Source::Ebpf,
        start_ns: bytes.u64(offset_of!(abi::Oom, start_ns))?,
        pid: nonzero(bytes.u32(offset_of!(abi::Oom, tgid))?).filter(|_| victim_known),
        tid: bytes.u32(offset_of!(abi::Oom, tid))?,
        uid: bytes.u32(offset_of!(abi::Oom, uid))?,
        score_adj: bytes.i32(offset_of!(abi::Oom, score_adj))?,
        anon_pages: bytes.u64(offset_of!(abi::Oom, anon_pages))?,
        file_pages: bytes.u64(offset_of!(abi::Oom, file_pages))?,
        shmem_pages: bytes.u64(offset_of!(abi::Oom, shmem_pages))?,
        swap_pages: bytes.u64(offset_of!(abi::Oom, swap_pages))?,
        cgroups: bytes.cgroups(offset_of!(abi::Oom, cgroup_v2), offset_of!(abi::Oom, cgroup_mem_v1))?,
        main_pid: None,
        comm: bytes.comm(offset_of!(abi::Oom, comm))?,
        trigger_pid: bytes.u32(offset_of!(abi::Oom, trigger_tgid))?,
        trigger_comm: bytes.comm(offset_of!(abi::Oom, trigger_comm))?,
        scope: OomScope::Unknown,
        stack,
    })
}

fn exec(bytes: &Bytes<'_>) -> Result<Exec, DecodeError> {
    let flags = bytes.u32(offset_of!(abi::Exec, flags))?;
    let filename_len = bytes.u32(offset_of!(abi::Exec, filename_len))?;
    let argv_len = bytes.u32(offset_of!(abi::Exec, argv_len))?;
    let filename = bytes.buffer(offset_of!(abi::Exec, filename), abi::FILENAME_LEN, filename_len)?;
    let argv = bytes.buffer(offset_of!(abi::Exec, argv), abi::ARGV_LEN, argv_len)?;
    let image = Image {
        start_ns: bytes.u64(offset_of!(abi::Exec, start_ns))?,
        parent_pid: bytes.u32(offset_of!(abi::Exec, ppid))?,
        uid: bytes.u32(offset_of!(abi::Exec, uid))?,
        pid_namespace: Some(bytes.u32(offset_of!(abi::Exec, pid_namespace))?).filter(|inode| *inode != 0),
        watched: flags & abi::WATCHED != 0,
        cgroups: bytes.cgroups(offset_of!(abi::Exec, cgroup_v2), offset_of!(abi::Exec, cgroup_mem_v1))?,
        comm: bytes.comm(offset_of!(abi::Exec, comm))?,
        filename: String::from_utf8_lossy(filename).into_owned(),
        arguments: arguments(argv),
        arguments_truncated: flags & abi::EXEC_ARGV_TRUNCATED != 0,
    };
    Ok(Exec {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        source: Source::Ebpf,
        pid: bytes.u32(offset_of!(abi::Exec, tgid))?,
        image: Some(image),
    })
}

/// Splits at NULs. The last argument's NUL closes it, and does not start another one; a truncated one has none.
fn arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|it| *it == 0).map(|it| String::from_utf8_lossy(it).into_owned()).collect()
}

/// A path that fills its buffer was cut and may name another cgroup, so it becomes empty.
fn cgroup(bytes: &Bytes<'_>) -> Result<CgroupMade, DecodeError> {
    let length = bytes.u32(offset_of!(abi::CgroupMade, path_len))?;
    let path = bytes.buffer(offset_of!(abi::CgroupMade, path), abi::CGROUP_PATH_LEN, length)?;
    let cut = path.len() >= abi::CGROUP_PATH_LEN - 1;
    Ok(CgroupMade {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        id: bytes.u64(offset_of!(abi::CgroupMade, id))?,
        hierarchy: bytes.u32(offset_of!(abi::CgroupMade, hierarchy))?,
        path: if cut { String::new() } else { String::from_utf8_lossy(path).into_owned() },
    })
}

fn received(bytes: &Bytes<'_>) -> Result<ReceivedSignal, DecodeError> {
    Ok(ReceivedSignal {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        pid: bytes.u32(offset_of!(abi::ReceivedSignal, tgid))?,
        start_ns: bytes.u64(offset_of!(abi::ReceivedSignal, start_ns))?,
        signal: signal(bytes, offset_of!(abi::ReceivedSignal, signal))?.ok_or(DecodeError::NoSignal)?,
    })
}

fn crashed(bytes: &Bytes<'_>) -> Result<ReceivedSignal, DecodeError> {
    Ok(ReceivedSignal {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        pid: bytes.u32(offset_of!(abi::Crash, tgid))?,
        start_ns: bytes.u64(offset_of!(abi::Crash, start_ns))?,
        signal: signal(bytes, offset_of!(abi::Crash, signal))?.ok_or(DecodeError::NoSignal)?,
    })
}

fn listen(bytes: &Bytes<'_>) -> Result<Listen, DecodeError> {
    let family = bytes.u16(offset_of!(abi::Listen, family))?;
    let address = address(family, bytes.array(offset_of!(abi::Listen, addr))?)?;
    Ok(Listen {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        source: Source::Ebpf,
        up: bytes.u32(offset_of!(abi::Listen, up))? != 0,
        address,
        port: bytes.u16(offset_of!(abi::Listen, port))?,
        pid: bytes.u32(offset_of!(abi::Listen, tgid))?,
        start_ns: bytes.u64(offset_of!(abi::Listen, start_ns))?,
        cgroups: bytes.cgroups(offset_of!(abi::Listen, cgroup_v2), offset_of!(abi::Listen, cgroup_mem_v1))?,
        comm: bytes.comm(offset_of!(abi::Listen, comm))?,
    })
}
