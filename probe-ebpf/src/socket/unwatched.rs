//! The owners of the connections of unwatched processes.
//!
//! Most connections of a host are of such processes, and each is entered, looked up and removed. The kernel's own maps take
//! locks for that. This table is an array of rows. The address of a socket decides its row, and any place in the row will
//! do. In a full row an entry is displaced, and counted.
//!
//! There is no lock: a connection changes its state on one CPU at a time. If two CPUs take the same place at once, one of
//! the two connections has no owner.

use core::ptr;

use aya_ebpf::{macros::map, maps::Array};
use probe_abi::{DropClass, OWNERS_PLACES, OWNERS_ROWS};

use super::owner::Owner;
use crate::ring;

#[repr(C)]
struct Row {
    /// The socket of each place, with the number of the place in the lower bits, which are 0 in an address; 0 for a free
    /// place.
    marks: [u64; OWNERS_PLACES],
    owners: [Owner; OWNERS_PLACES],
}

/// The daemon may begin to watch a process while its connections last.
#[map]
static OWNERS: Array<Row> = Array::with_max_entries(OWNERS_ROWS, 0);

/// 2^64 divided by the golden ratio: the upper bits of a product with it differ for adjacent addresses.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// No place. An `Option` would leave a register without a value, which the verifier refuses.
const NONE: u64 = OWNERS_PLACES as u64;

/// The mark and the owner of a socket; null if it has none.
#[inline(always)]
pub fn find(socket: u64) -> (*mut u64, *const Owner) {
    let none = (ptr::null_mut(), ptr::null());
    let Some(row) = row(socket) else { return none };
    // SAFETY: the lookup returned a valid row, and the place is within it.
    unsafe {
        match place_of(row, |place| socket | place) {
            NONE => none,
            place => (mark(row, place), owner(row, place).cast_const()),
        }
    }
}

#[inline(always)]
pub fn insert(socket: u64, of: &Owner) {
    let Some(row) = row(socket) else { return };
    // SAFETY: as above. The mark is written last: it says that the place is valid.
    unsafe {
        let mut place = place_of(row, |place| socket | place);
        if place == NONE {
            place = place_of(row, |_| 0);
        }
        if place == NONE {
            ring::count_drop(DropClass::SocketOwnerUnwatched);
            // As good as any: the clock's lower bits are random.
            place = of.since_ns >> 4 & (OWNERS_PLACES as u64 - 1);
        }
        owner(row, place).write(*of);
        mark(row, place).write_volatile(socket | place);
    }
}

#[inline(always)]
pub fn remove(socket: u64) {
    let (mark, _) = find(socket);
    if !mark.is_null() {
        // SAFETY: the mark is in a valid row.
        unsafe { free(mark) };
    }
}

/// # Safety
/// `mark` must be from [`find`].
#[inline(always)]
pub unsafe fn free(mark: *mut u64) {
    // SAFETY: the caller guarantees it.
    unsafe { mark.write_volatile(0) };
}

#[inline(always)]
fn row(socket: u64) -> Option<*mut Row> {
    OWNERS.get_ptr_mut((socket.wrapping_mul(SPREAD) >> (u64::BITS - OWNERS_ROWS.ilog2())) as u32)
}

#[inline(always)]
unsafe fn mark(row: *mut Row, place: u64) -> *mut u64 {
    // SAFETY: the caller guarantees that the place is within the row.
    unsafe { (&raw mut (*row).marks).cast::<u64>().add(place as usize) }
}

#[inline(always)]
unsafe fn owner(row: *mut Row, place: u64) -> *mut Owner {
    // SAFETY: as above.
    unsafe { (&raw mut (*row).owners).cast::<Owner>().add(place as usize) }
}

/// The first place with a mark, or [`NONE`].
#[inline(always)]
unsafe fn place_of(row: *mut Row, marked: impl Fn(u64) -> u64) -> u64 {
    for place in 0..OWNERS_PLACES as u64 {
        // SAFETY: the caller guarantees the row, and the place is within it.
        if unsafe { mark(row, place).read_volatile() } == marked(place) {
            return any_of(place);
        }
    }
    NONE
}

/// The same number, of which the verifier knows the bounds only. It would follow each place to the end of the program.
///
/// The verifier tracks a number on the stack, but not one that was written in pieces.
#[inline(always)]
fn any_of(place: u64) -> u64 {
    #[repr(C, align(2))]
    struct Pieces([u8; 2]);
    let mut pieces = Pieces([0; 2]);
    let there = (&raw mut pieces).cast::<u8>();
    // SAFETY: both pieces and the whole are on this program's stack. A sum of zeros would be known.
    unsafe {
        there.write_volatile(place as u8 + 1);
        there.add(1).write_volatile(0);
        u64::from(u16::from_le(there.cast::<u16>().read_volatile())).wrapping_sub(1)
            & (OWNERS_PLACES as u64 - 1)
    }
}
