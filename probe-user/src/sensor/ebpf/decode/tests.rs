use super::*;

mod host;
mod process;
mod socket;
pub mod wire;

use wire::{all, exec_bytes};

#[test]
fn every_truncation_is_an_error() {
    for whole in all() {
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(decode(&longer), Err(DecodeError::Size { .. })));
    }
}

#[test]
fn garbage_is_an_error_or_a_record_but_never_a_panic() {
    assert_eq!(decode(&[0xff; 152]), Err(DecodeError::Kind(u32::MAX)));
    let mut state = 1_u64;
    for whole in all() {
        for _ in 0..2_000 {
            let mut bytes = whole.clone();
            for _ in 0..4 {
                // A fixed sequence, so that a failure repeats.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(state >> 33).unwrap() % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            let _ = decode(&bytes);
        }
    }
    let mut bytes = exec_bytes();
    bytes[56..60].copy_from_slice(&257_u32.to_ne_bytes()); // filename_len
    assert_eq!(decode(&bytes), Err(DecodeError::Length { length: 257, room: 256 }));
}
