//! What a probe sends and expects.

use super::outside::Outside;
use crate::config::{
    bytes::{Bytes, Filled},
    error::Findings,
    exchange::{Exchange, Place},
    protocol::ProbeKeys,
    spanned::Spanned,
    values::{At, Table, Text},
};

/// The most bytes that are sent: what a datagram may hold.
const SEND_MAX: usize = 65_507;

/// The bytes that a probe sends and expects, as far as they are right.
pub(super) fn exchange(written: &ProbeKeys, outside: &Outside<'_>, found: &mut Findings) -> Exchange {
    let mut exchange = Exchange::default();
    if let Some(sent) = bytes(&written.send, "send", outside, found) {
        exchange.send(sent);
    }
    if let (Some(send), None) = (&written.udp, &written.send) {
        let message = "a udp probe without `send`; expected the bytes of a datagram that the server answers";
        found.error(send.span(), message);
    }
    let Some(expect) = &written.expect else { return exchange };
    let Table(expect) = expect.get_ref();
    let start = bytes(&expect.starts_with, "starts_with", outside, found);
    let part = bytes(&expect.contains, "contains", outside, found);
    match (start, part) {
        (Some(_), Some(_)) => {
            let message = "both `starts_with` and `contains`; expected one of them";
            found.error(expect.contains.as_ref().map_or(0..0, Spanned::span), message);
        }
        (Some(start), None) => exchange.expect(Place::Start, start),
        (None, Some(part)) => exchange.expect(Place::Anywhere, part),
        (None, None) => {}
    }
    exchange
}

fn bytes(
    written: &At<Text<Bytes>>,
    key: &str,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Filled> {
    let written = written.as_ref()?;
    let Text(bytes) = written.get_ref();
    match bytes.fill(outside.variable) {
        Ok(filled) if (1..=SEND_MAX).contains(&filled.bytes.len()) => return Some(filled),
        Ok(filled) => {
            let length = filled.bytes.len();
            found.error(written.span(), format!("`{key}` has {length} bytes; expected 1 to {SEND_MAX}"));
        }
        Err(name) => found.error(
            written.span(),
            format!(
                "the environment variable {name} is not set or empty; expected it to be set for the daemon"
            ),
        ),
    }
    None
}
