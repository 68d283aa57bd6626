//! What probes read besides answers over a connection: certificates, DNS answers, gRPC frames, ICMP messages, and the output of
//! programs that check.
use std::time::{Duration, SystemTime};

use hostprobe::probe::fuzz::{dns_answer, expiry, first_line, is_echo, status_in_frame};
use hostprobe_fuzz::split;

/// Between the certificates of a chain.
const NEXT: &[u8] = b"\n--\n";

/// The longest part of an output that is shown, in bytes.
const SHOWN: usize = 400;

/// The payload of an echo request.
const PAYLOAD: &[u8; 16] = b"0123456789abcdef";

pub fn fuzz(input: &[u8]) {
    let Some((source, bytes)) = input.split_first() else { return };
    match source {
        b'c' => {
            let chain: Vec<&[u8]> = split(bytes, NEXT).collect();
            for limit in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33)] {
                if let Some(at) = expiry(&chain, limit) {
                    assert!(at.ends_with(" UTC"), "{at}");
                }
            }
        }
        b'd' => {
            for record in ["A", "AAAA", "CAA", "HTTPS", "MX", "SOA", "SRV", "TXT"] {
                if let Some(judged) = dns_answer(record, bytes) {
                    // Only an address can be the expected one.
                    assert!(judged.is_err() || record == "A", "{record}");
                }
            }
        }
        b'g' => {
            if let Some(status) = status_in_frame(bytes) {
                assert!(status < 0x80 && bytes.len() <= 7, "{bytes:?}");
            }
        }
        b'i' => {
            for (is_v4, has_header) in [(true, false), (true, true), (false, false)] {
                let is_ours = is_echo(bytes, PAYLOAD, is_v4, has_header);
                assert!(!is_ours || bytes.ends_with(PAYLOAD), "{bytes:?}");
            }
        }
        b'n' => {
            let line = first_line(bytes);
            assert!(line.len() <= SHOWN && !line.contains(['\n', '|']), "{line:?}");
        }
        _ => {}
    }
}
