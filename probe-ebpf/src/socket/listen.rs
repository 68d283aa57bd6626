//! TCP listeners that appear and close.

use aya_ebpf::programs::RawTracePointContext;
use aya_log_ebpf::debug;
use probe_abi::{DropClass, KIND_LISTEN, Listen};

use super::{owner::Owner, owners, sock};
use crate::{
    budget::{self, Budget},
    ring::{self, URGENT},
    task,
};

/// The current process begins to listen (`up` is 1), or stops.
#[inline(always)]
pub fn on_change(ctx: &RawTracePointContext, socket: u64, up: u32) {
    let family = sock::family(socket);
    let port = sock::local_port(socket);
    let owner = Owner::current();
    debug!(ctx, "listener on port {} up {} by {}", port, up, owner.tgid);
    let key = sock::port_key(socket, port);
    if up == 1 {
        owners::add_listener(&key, socket, &owner);
    } else {
        owners::remove_listener(&key, socket);
    }

    let direct = owner.is_watched_directly();
    if task::is_outside_namespace(owner.tgid) && !direct {
        return;
    }
    if !budget::take(direct, Budget::WatchedListen, Budget::Listen, &owner.cgroups()) {
        ring::count_drop(DropClass::ListenThrottled);
        return;
    }
    if !direct && !ring::half_free(&URGENT) {
        ring::count_drop(DropClass::Listen);
        return;
    }
    let Some(mut entry) = URGENT.reserve::<Listen>(0) else {
        ring::count_drop(DropClass::Listen);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `Listen`; every field is written.
    unsafe {
        ring::write_header(record, KIND_LISTEN);
        (*record).start_ns = owner.start_ns;
        (*record).cgroup_v2 = owner.cgroup_v2;
        (*record).cgroup_mem_v1 = owner.cgroup_mem_v1;
        (*record).tgid = owner.tgid;
        (*record).up = up;
        (*record).family = family;
        (*record).port = port;
        (*record).pad = 0;
        sock::write_local(&raw mut (*record).addr, socket, family);
        task::copy_current_comm(&raw mut (*record).comm);
    }
    entry.submit(ring::WAKEUP);
}
