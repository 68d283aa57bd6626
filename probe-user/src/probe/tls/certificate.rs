//! When a certificate expires, and whose it is (RFC 5280, section 4.1).

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// The tags of DER that a certificate has before its validity.
const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The parts of a name (RFC 5280, appendix A.1) that say the most: `commonName`, `organizationName`.
const NAMES: [&[u8]; 2] = [&[0x55, 4, 3], &[0x55, 4, 10]];

/// The longest name that is shown, in characters: twice the upper bound of a `commonName`.
const NAME_MAX: usize = 128;

/// The end of a certificate's validity; None if it is no certificate.
pub(super) fn not_after(der: &[u8]) -> Option<SystemTime> {
    let mut validity = Der(up_to_validity(der)?.read(SEQUENCE)?);
    validity.next()?;
    let (tag, text) = validity.next()?;
    time(tag, str::from_utf8(text).ok()?)
}

/// Whose certificate it is; None if it does not say so.
pub(super) fn subject(der: &[u8]) -> Option<String> {
    let mut fields = up_to_validity(der)?;
    fields.next()?;
    let subject = fields.read(SEQUENCE)?;
    NAMES.iter().find_map(|name| part_of_name(subject, name))
}

fn part_of_name(name: &[u8], wanted: &[u8]) -> Option<String> {
    let mut sets = Der(name);
    while let Some((_, set)) = sets.next() {
        let mut part = Der(Der(set).read(SEQUENCE)?);
        let (kind, (_, text)) = (part.read(OBJECT_IDENTIFIER)?, part.next()?);
        if kind == wanted {
            return Some(String::from_utf8_lossy(text).chars().take(NAME_MAX).collect());
        }
    }
    None
}

/// The fields of a certificate that are left behind its issuer: its validity, its subject, and so on.
fn up_to_validity(der: &[u8]) -> Option<Der<'_>> {
    let mut certificate = Der(Der(der).read(SEQUENCE)?);
    let mut fields = Der(certificate.read(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    // The serial number, the algorithm and the issuer.
    for _ in 0..3 {
        fields.next()?;
    }
    Some(fields)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time(tag: u8, text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let (year, rest) = digits.split_at(2);
            let year: i16 = year.parse().ok()?;
            (year + if year < 50 { 2000 } else { 1900 }, rest)
        }
        GENERALIZED_TIME if digits.len() == 14 => {
            let (year, rest) = digits.split_at(4);
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let at = DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    let seconds = Offset::UTC.to_timestamp(at).ok()?.as_second();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// A time for people: `2026-12-06 10:00 UTC`.
pub(super) fn date(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
    Offset::UTC.to_datetime(at).strftime("%F %H:%M UTC").to_string()
}

/// What is left to read of a DER encoding.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next value, with its tag.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = if *first < 0x80 {
            (usize::from(*first), rest)
        } else {
            // A certificate is shorter than 2²⁴ bytes: TLS has no longer ones.
            let count = usize::from(*first & 0x7f);
            let (bytes, rest) = rest.split_at_checked(count).filter(|_| (1..=3).contains(&count))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, value))
    }

    fn read(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tag: u8, text: &str) -> Option<u64> {
        Some(time(tag, text)?.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn both_notations_of_a_time_are_read() {
        assert_eq!(seconds(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(seconds(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        for text in ["", "Z", "7001010000Z", "70010100000１Z", "701301000001Z", "700101000001"] {
            assert_eq!(seconds(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(date(SystemTime::UNIX_EPOCH), "1970-01-01 00:00 UTC");
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x80",
            b"\x30\x02\x30\x00",
            b"\x30\x03\x30\x01\xa0",
        ] {
            assert_eq!((not_after(bytes), subject(bytes)), (None, None), "{bytes:?}");
        }
    }
}
