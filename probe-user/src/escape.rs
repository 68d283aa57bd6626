//! Characters of foreign texts that a terminal or a page would obey instead of showing.

use std::borrow::Cow;

/// Whether a character moves the cursor, ends a line, rings, or changes the order or the visibility of others.
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char,
            // Marks and overrides of the direction (Unicode's bidirectional algorithm, UAX 9).
            '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Further ends of a line, and characters without a width.
            | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{ad}'
            | '\u{34f}' | '\u{180b}'..='\u{180f}' | '\u{17b4}' | '\u{17b5}'
            // Letters that show as nothing.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
            // Variation selectors, annotations and tags.
            | '\u{fe00}'..='\u{fe0f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// One line of text that can be shown anywhere: `\n`, `\u{1b}` and so on instead of the characters.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_unsafe(char) { shown.extend(char.escape_default()) } else { shown.push(char) }
    }
    Cow::Owned(shown)
}

/// The same JSON without such characters in its strings: they become `\uXXXX`.
pub fn escaped_json(json: &mut Vec<u8>) {
    // JSON itself escapes those below a space, and the others have bytes from 0x7f on.
    let Some(first) = json.iter().position(|&byte| byte >= 0x7f) else { return };
    let Ok(rest) = str::from_utf8(&json[first..]) else { return };
    if !rest.contains(|char| is_unsafe(char) && !char.is_ascii_whitespace()) {
        return;
    }
    let mut shown = String::with_capacity(rest.len() + 16);
    for char in rest.chars() {
        if is_unsafe(char) && !char.is_ascii_whitespace() {
            for unit in char.encode_utf16(&mut [0; 2]) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(char);
        }
    }
    json.truncate(first);
    json.extend_from_slice(shown.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{escaped, escaped_json};

    #[test]
    fn what_a_terminal_obeys_is_shown_as_text() {
        assert_eq!(escaped("a\u{1b}[2J\u{7}\r\n\tb"), r"a\u{1b}[2J\u{7}\r\n\tb");
        assert_eq!(
            escaped("\u{9b}31m \u{7f} \u{202e}txt.exe\u{2066}"),
            r"\u{9b}31m \u{7f} \u{202e}txt.exe\u{2066}"
        );
        assert_eq!(escaped("\u{2028}\u{200b}\u{feff}\u{e0041}"), r"\u{2028}\u{200b}\u{feff}\u{e0041}");
        for char in "\u{200c}\u{200d}\u{34f}\u{115f}\u{1160}\u{3164}\u{ffa0}\u{180e}\u{fe0f}\u{e0100}".chars()
        {
            assert_eq!(escaped(&format!("a{char}b")), format!("a{}b", char.escape_default()));
        }
        assert_eq!(escaped("Grüße, 東京 🎉 ok"), "Grüße, 東京 🎉 ok");
    }

    #[test]
    fn json_keeps_its_meaning_and_its_layout() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{202e}x\u{7f}\u{1b}\n", "ü", "\u{e0041}"] });
        let mut json = serde_json::to_vec_pretty(&value).unwrap();
        escaped_json(&mut json);
        let text = String::from_utf8(json.clone()).unwrap();
        assert!(!text.contains(['\u{9b}', '\u{202e}', '\u{7f}', '\u{1b}', '\u{e0041}']), "{text}");
        assert!(text.contains("ü") && text.lines().count() > 3, "{text}");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&json).unwrap(), value);
    }
}
