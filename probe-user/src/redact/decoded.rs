//! A text with its escapes decoded, to find a secret that a server repeats in an encoded form.

use std::ops::Range;

/// A text with `%40`, `\"`, `\u0040`, `\x40` and `&amp;` decoded.
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// Where each byte began in the text; last, the text's length.
    places: Vec<usize>,
}

impl Decoded {
    /// None if the text has no escapes.
    pub(super) fn of(text: &str) -> Option<Self> {
        if !text.contains(['%', '\\', '&']) {
            return None;
        }
        let mut decoded = Self { bytes: Vec::new(), places: Vec::new() };
        let mut at = 0;
        while let Some(&byte) = text.as_bytes().get(at) {
            let rest = text.get(at..).unwrap_or_default();
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
        Some(decoded)
    }

    /// The place in the text of a range of `bytes`.
    pub(super) fn place(&self, at: Range<usize>) -> Range<usize> {
        self.places[at.start]..self.places[at.end]
    }

    fn push(&mut self, bytes: &[u8], place: usize) {
        self.bytes.extend_from_slice(bytes);
        self.places.extend(bytes.iter().map(|_| place));
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
    let (number, _) = text.strip_prefix("&#")?.split_once(';').filter(|(number, _)| number.len() < 8)?;
    let character = match number.strip_prefix(['x', 'X']) {
        Some(digits) => hex(digits)?,
        None => char::from_u32(number.parse().ok()?)?,
    };
    Some((character, number.len() + 3))
}
