//! A text with its escapes decoded, to find a secret that a server repeats in an encoded form.

use std::ops::Range;

/// A text with `%40`, `\"`, `\u0040`, `\x40` and `&amp;` decoded.
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// Where each byte began in the text; last, the text's length.
    places: Vec<usize>,
    /// How many of the bytes are before an escape that the end of the text cuts off.
    whole: usize,
}

impl Decoded {
    /// None if the text has no escapes.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        memchr::memchr3(b'%', b'\\', b'&', text)?;
        let mut decoded = Self { bytes: Vec::new(), places: Vec::new(), whole: 0 };
        let (mut at, mut whole) = (0, None);
        while let Some((&byte, after)) = text.get(at..).and_then(<[u8]>::split_first) {
            if whole.is_none() && is_cut_escape(byte, after) {
                whole = Some(decoded.bytes.len());
            }
            let rest = ascii_start(&text[at..]);
            let length = if let Some(byte) = percent(rest) {
                decoded.push(&[byte], at);
                3
            } else if let Some((character, length)) = escape(rest) {
                decoded.push(character.encode_utf8(&mut [0; 4]).as_bytes(), at);
                length
            } else {
                decoded.push(&[byte], at);
                1
            };
            at += length;
        }
        decoded.places.push(text.len());
        decoded.whole = whole.unwrap_or(decoded.bytes.len());
        Some(decoded)
    }

    /// The place in the text of a range of `bytes`.
    pub(super) fn place(&self, at: Range<usize>) -> Range<usize> {
        self.places[at.start]..self.places[at.end]
    }

    /// The bytes before an escape that the end of the text cuts off.
    pub(super) fn whole(&self) -> &[u8] {
        &self.bytes[..self.whole]
    }

    fn push(&mut self, bytes: &[u8], place: usize) {
        self.bytes.extend_from_slice(bytes);
        self.places.extend(bytes.iter().map(|_| place));
    }
}

/// The most that an escape has: `&#x10ffff;`.
const ESCAPE_MAX: usize = 10;

/// The bytes in which an escape at the start would be.
fn ascii_start(bytes: &[u8]) -> &str {
    let bytes = &bytes[..bytes.len().min(ESCAPE_MAX)];
    let length = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(bytes.len());
    str::from_utf8(&bytes[..length]).unwrap_or_default()
}

/// Whether the last bytes of a text are the beginning of an escape.
fn is_cut_escape(first: u8, after: &[u8]) -> bool {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match (first, after) {
        (b'\\', []) => true,
        (b'\\', [b'u', digits @ ..]) => digits.len() < 4 && is_hex(digits),
        (b'\\', [b'x', digits @ ..]) | (b'%', digits) => digits.len() < 2 && is_hex(digits),
        (b'&', name) => {
            name.len() < ESCAPE_MAX - 1
                && name.iter().all(|byte| *byte == b'#' || byte.is_ascii_alphanumeric())
        }
        _ => false,
    }
}

fn percent(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    u8::from_str_radix(digits, 16).ok()
}

/// The character of the escape that a text begins with, and the escape's length.
fn escape(text: &str) -> Option<(char, usize)> {
    const PLAIN: [(&str, char); 9] = [
        ("\\\"", '"'),
        ("\\'", '\''),
        ("\\\\", '\\'),
        ("\\/", '/'),
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&apos;", '\''),
    ];
    if let Some((escape, character)) = PLAIN.iter().find(|(escape, _)| text.starts_with(escape)) {
        return Some((*character, escape.len()));
    }
    let hex = |digits: &str| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
    if let Some(rest) = text.strip_prefix("\\x") {
        return Some((hex(rest.get(..2)?)?, 4));
    }
    if let Some(rest) = text.strip_prefix("\\u") {
        return Some((hex(rest.get(..4)?)?, 6));
    }
    let (number, _) = text.strip_prefix("&#")?.split_once(';')?;
    let character = match number.strip_prefix(['x', 'X']) {
        Some(digits) => hex(digits)?,
        None => char::from_u32(number.parse().ok()?)?,
    };
    Some((character, number.len() + 3))
}
