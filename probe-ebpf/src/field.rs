//! Reads fields of kernel structures, whose offsets are known at load time only.

use aya_ebpf::{Global, helpers::generated};
use probe_abi::ABSENT;

/// Declares offsets, one frozen global each.
///
/// A single structure of all offsets does not work: loading it copies the whole of it to the 512-byte stack.
macro_rules! offsets {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {$(
        $(#[doc = $doc])*
        #[unsafe(no_mangle)]
        pub static $name: aya_ebpf::Global<u32> = aya_ebpf::Global::new(probe_abi::ABSENT);
    )*};
}
pub(crate) use offsets;

/// Reads a scalar at `base + offset`; 0 for an absent field or memory that cannot be read, such as beyond a null base.
///
/// It deliberately does not branch on the outcome or on the base. The verifier follows both sides of a branch, so each
/// read would double its work, and kernel 6.1 refused the exit program as too large.
#[inline(always)]
pub fn read<T: Scalar>(base: u64, offset: &Global<u32>) -> T {
    let offset = offset.load();
    // No branch to the verifier: the global is frozen, so it knows the answer.
    if offset == ABSENT {
        return T::ZERO;
    }
    let mut value = T::ZERO;
    let address = base.wrapping_add(u64::from(offset));
    // SAFETY: the helper checks the address itself, and clears the value if it cannot read.
    unsafe {
        generated::bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, address as *const _)
    };
    value
}

/// Reads a pointer field; 0 stands for null and for a field that cannot be read.
#[inline(always)]
pub fn pointer(base: u64, offset: &Global<u32>) -> u64 {
    read(base, offset)
}

/// 1 where the kernel returns the current task as a typed pointer (`bpf_get_current_task_btf`, since 5.11).
#[unsafe(no_mangle)]
static CURRENT_IS_TYPED: Global<u32> = Global::new(0);

/// Whether [`typed`] reads by plain loads.
#[inline(always)]
pub fn is_typed() -> bool {
    CURRENT_IS_TYPED.load() != 0
}

/// Like [`read`], for a base that comes from `task::current_typed`, directly or through this function. Where the kernel
/// knows the types, it lets a program read by a plain load, which is much faster than the helper call. Memory that cannot
/// be read gives 0 here too.
///
/// It is for what happens often, such as an exit that is filtered. For each pointer that is read so from a structure that
/// the kernel guards, the verifier searches all its types up to four times, which takes a millisecond at each start of the
/// daemon.
#[inline(always)]
pub fn typed<T: Scalar>(base: u64, offset: &Global<u32>) -> T {
    if !is_typed() {
        return read(base, offset);
    }
    let address = base.wrapping_add(u64::from(offset.load()));
    // SAFETY: the verifier knows the type that `base` points to, and that `offset` is a field of it. A load that faults
    // gives 0.
    unsafe { (address as *const T).read_volatile() }
}

/// What [`read`] can read: types for which all bytes are valid.
pub trait Scalar: Copy {
    /// The value of a field that could not be read.
    const ZERO: Self;
}

macro_rules! scalars {
    ($($kind:ty)*) => {$(impl Scalar for $kind { const ZERO: Self = 0; })*};
}
scalars!(i16 u16 i32 u32 i64 u64);

/// Copies a byte array field into `to`. If the field cannot be read, `to` is all zeros.
///
/// # Safety
/// `to` must be memory of this program: a ring reservation, a map value or the stack.
#[inline(always)]
pub unsafe fn copy<const N: usize>(to: *mut [u8; N], base: u64, offset: &Global<u32>) {
    let offset = offset.load();
    // Address 0 fails in the helper, which then clears the destination.
    let address = if offset == ABSENT { 0 } else { base.wrapping_add(u64::from(offset)) };
    // SAFETY: the caller guarantees `to`, which is N bytes long; the helper checks the source.
    unsafe { generated::bpf_probe_read_kernel(to.cast(), N as u32, address as *const _) };
}

/// Copies a text from `from` up to its NUL. If it cannot be read, `to` is all zeros. What follows the NUL is left as it is.
///
/// # Safety
/// `to` must be memory of this program: a ring reservation, a map value or the stack.
#[inline(always)]
pub unsafe fn copy_text<const N: usize>(to: *mut [u8; N], from: u64) {
    // SAFETY: the caller guarantees `to`, which is N bytes long; the helper checks the source.
    unsafe { generated::bpf_probe_read_kernel_str(to.cast(), N as u32, from as *const _) };
}

/// The address of a field that [`copy_text`] can read; of no memory if the kernel does not have the field.
#[inline(always)]
pub fn address(base: u64, offset: &Global<u32>) -> u64 {
    let offset = offset.load();
    if offset == ABSENT { 0 } else { base.wrapping_add(u64::from(offset)) }
}
