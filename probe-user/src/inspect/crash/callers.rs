//! The calls of a crashed thread, by the tables with which the code says where its return addresses are.
//!
//! The kernel follows frame pointers, which most code does not keep: its stack of an `abort` ends in the C library then.

use std::time::Instant;

use probe_abi::FRAMES_MAX;

use super::image::Image;
use crate::{
    fact::{CrashFrame, CrashSite, MemoryAccess},
    stacks::StackCopy,
};

/// Replaces the calls that the kernel found if a copy of the stack shows at least as many in known code. It reads the files
/// of the process, and ends about then.
pub fn find(site: &mut CrashSite, image: &Image, stack: &StackCopy, until: Instant) {
    // There is no code at the place that such a process went to.
    if site.access == Some(MemoryAccess::Execute) {
        return;
    }
    let files = image.clone();
    let open = move |mapping: &_| files.open(mapping, None).map(|(file, _)| file);
    let calls = stack.calls(image.mappings.to_vec(), open, until);
    let is_known = |address: &u64| image.at(*address).is_some();
    let known = calls.iter().take_while(|address| is_known(address)).count().min(FRAMES_MAX);
    if known < 2 || known < known_to_kernel(site, image) {
        return;
    }
    // The kernel's first frame is exact, and has the build id of its file.
    site.stack.truncate(1);
    let frame = |address: &u64| CrashFrame { address: Some(*address), ..CrashFrame::default() };
    let from = site.stack.len();
    site.stack.extend(calls[from..known].iter().map(frame));
}

/// How many of the kernel's frames are in files. Where the code keeps no frame pointers, they end in data.
fn known_to_kernel(site: &CrashSite, image: &Image) -> usize {
    let in_file = |frame: &&CrashFrame| {
        frame.build_id.is_some() || frame.address.is_some_and(|address| image.at(address).is_some())
    };
    site.stack.iter().take_while(in_file).count()
}
