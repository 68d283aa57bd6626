//! What several fuzzers share.

pub mod answers;
pub mod host;

/// The parts of an input between these marks.
pub fn split<'i>(input: &'i [u8], mark: &'i [u8]) -> impl Iterator<Item = &'i [u8]> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let part = rest?;
        match part.windows(mark.len()).position(|window| window == mark) {
            Some(at) => {
                rest = Some(&part[at + mark.len()..]);
                Some(&part[..at])
            }
            None => rest.take(),
        }
    })
}

/// Whether a text has no character that a terminal would obey; a line feed may end it.
pub fn is_one_plain_line(text: &str) -> bool {
    let line = text.strip_suffix('\n').unwrap_or(text);
    hostprobe::escape::escaped(line) == line && !line.contains(char::is_control)
}
