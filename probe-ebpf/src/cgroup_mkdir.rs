//! `cgroup_mkdir`: a cgroup was made at this path.
//!
//! The other records name cgroups by id. When a container ends, its runtime removes the cgroup at once, and then no file
//! says which path the id had. So the daemon keeps the path from here.

use aya_ebpf::{helpers::generated, macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;
use probe_abi::{CGROUP_PATH_LEN, CgroupMade, DropClass, KIND_CGROUP};

use crate::{
    cgroup,
    ring::{self, BULK},
};

/// Program for the raw tracepoint `cgroup_mkdir(cgroup, path)`.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    let made = ctx.arg::<u64>(0);
    let path = ctx.arg::<u64>(1);
    let id = cgroup::id(made);
    debug!(&ctx, "cgroup {} was made", id);
    if !ring::half_free(&BULK) {
        ring::count_drop(DropClass::Cgroup);
        return 0;
    }
    let Some(mut entry) = BULK.reserve::<CgroupMade>(0) else {
        ring::count_drop(DropClass::Cgroup);
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `CgroupMade`; every field is written but the unused end of its path.
    unsafe {
        ring::write_header(record, KIND_CGROUP);
        (*record).id = id;
        (*record).hierarchy = cgroup::hierarchy(made);
        let written = generated::bpf_probe_read_kernel_str(
            (&raw mut (*record).path).cast(),
            CGROUP_PATH_LEN as u32,
            path as *const _,
        );
        (*record).path_len = if written > 0 { (written - 1) as u32 } else { 0 };
    }
    entry.submit(ring::NO_WAKEUP);
    0
}
