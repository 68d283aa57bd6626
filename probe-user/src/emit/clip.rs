//! Shortens texts to a number of bytes, between characters.

/// The beginning of a text, at most `max` bytes.
pub fn clip(text: &str, max: usize) -> &str {
    if text.len() <= max { text } else { &text[..text.floor_char_boundary(max)] }
}

/// The text as an owned string of at most `max` bytes; a shortened one ends with `…`.
pub fn clipped(text: &str, max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    match max.checked_sub(MARK.len()) {
        Some(room) => format!("{}{MARK}", clip(text, room)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::clipped;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(clipped("abcdef", 5), "ab…");
        assert_eq!(clipped("ääää", 7), "ää…");
        assert_eq!(clipped("ääää", 6), "ä…");
        assert_eq!(clipped("ääää", 2), "");
    }
}
