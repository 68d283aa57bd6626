//! Reading a field of a kernel structure, where the field's offset is only known at load time.

use aya_ebpf::{Global, helpers::bpf_probe_read_kernel, helpers::generated};
use probe_abi::ABSENT;

/// Declares offsets, one frozen global each.
///
/// One structure of offsets would be tidier, but loading it copies the whole of it to the 512-byte stack.
macro_rules! offsets {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {$(
        $(#[doc = $doc])*
        #[unsafe(no_mangle)]
        pub static $name: aya_ebpf::Global<u32> = aya_ebpf::Global::new(probe_abi::ABSENT);
    )*};
}
pub(crate) use offsets;

/// Reads a scalar at `base + offset`: `None` for a null base, an absent field, or memory that cannot be read.
#[inline(always)]
pub fn read<T: Copy>(base: u64, offset: &Global<u32>) -> Option<T> {
    let offset = offset.load();
    if base == 0 || offset == ABSENT {
        return None;
    }
    let address = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address itself and fails on one that is not mapped.
    unsafe { bpf_probe_read_kernel(address) }.ok()
}

/// Follows a pointer field; 0 stands for null and for everything that cannot be read.
#[inline(always)]
pub fn pointer(base: u64, offset: &Global<u32>) -> u64 {
    read::<u64>(base, offset).unwrap_or(0)
}

/// Copies a byte array field into `to`, which is all zeros if the field cannot be read.
///
/// # Safety
/// `to` must be memory of this program's: a ring reservation, a map value or the stack.
#[inline(always)]
pub unsafe fn copy<const N: usize>(to: *mut [u8; N], base: u64, offset: &Global<u32>) {
    let offset = offset.load();
    // A null base plus an offset fails in the helper, which then clears the destination.
    let address = if base == 0 || offset == ABSENT { 0 } else { base.wrapping_add(u64::from(offset)) };
    // SAFETY: the caller vouches for `to`, which is N bytes long; the helper checks the source.
    unsafe { generated::bpf_probe_read_kernel(to.cast(), N as u32, address as *const _) };
}
