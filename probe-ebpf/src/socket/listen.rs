//! A service started to listen, or its listener went.

use aya_ebpf::programs::RawTracePointContext;
use aya_log_ebpf::debug;
use probe_abi::{DropClass, KIND_LISTEN, Listen};

use super::{
    owner::{self, Owner},
    port_key,
};
use crate::{
    budget::{self, Spender},
    ring::{self, URGENT},
    task,
};

/// Notes and tells that the current process listens (`up` is 1) or ceases to.
#[inline(always)]
pub fn changed(ctx: &RawTracePointContext, socket: u64, up: u32) {
    let family = super::family(socket);
    let port = super::local_port(socket);
    let owner = Owner::current();
    debug!(ctx, "listener on port {} up {} by {}", port, up, owner.tgid);
    let key = port_key(socket, port);
    if up == 1 {
        owner::listens(&key, socket, &owner);
    } else {
        owner::ceases(&key, socket);
    }

    let near = owner.is_near();
    if task::is_elsewhere(owner.tgid) && !near {
        return;
    }
    if !near {
        if !budget::take(Spender::Listen, &owner.cgroups()) {
            ring::count_drop(DropClass::ListenThrottled);
            return;
        }
        if !ring::half_free(&URGENT) {
            ring::count_drop(DropClass::Listen);
            return;
        }
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
        super::write_local(&raw mut (*record).addr, socket, family);
        task::copy_current_comm(&raw mut (*record).comm);
    }
    entry.submit(ring::WAKE);
}
