//! The secrets of the daemon's own configuration, which are hidden wherever a text repeats them.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use aho_corasick::{AhoCorasick, Match, MatchKind};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};

use super::decoded::Decoded;

/// What stands in place of a secret.
pub const HIDDEN: &str = "***";

/// A shorter secret is not hidden: its letters are in too many harmless words. A guess would find it at once anyway.
pub const SHORTEST_SECRET: usize = 4;

/// A shorter secret is hidden only where it is a word of its own.
const SHORTEST_ANYWHERE: usize = 8;

/// A shorter part of a secret in Base64 is in too many harmless texts.
const SHORTEST_BASE64: usize = 6;

/// The secrets, and what to search for. It only grows: a server may repeat a secret of an earlier configuration.
struct Known {
    secrets: BTreeSet<String>,
    /// The secrets and their encoded forms.
    forms: Vec<String>,
    /// Whether each of them is hidden only where it is a word of its own.
    words: Vec<bool>,
    /// Searches for each of `forms`.
    search: AhoCorasick,
}

static KNOWN: RwLock<Option<Arc<Known>>> = RwLock::new(None);

/// Has these secrets hidden in every text from now on.
pub fn remember(secrets: impl IntoIterator<Item = String>) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let mut all = known.as_ref().map(|known| known.secrets.clone()).unwrap_or_default();
    let before = all.len();
    all.extend(secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET));
    if all.len() == before {
        return;
    }
    let mut forms: Vec<String> = all.iter().flat_map(|secret| forms(secret)).collect();
    forms.sort_unstable();
    forms.dedup();
    match AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&forms) {
        Ok(search) => {
            // The same text may be a secret and a part of another one in Base64.
            let is_word = |form: &String| form.len() < SHORTEST_ANYWHERE && all.contains(form);
            let words = forms.iter().map(is_word).collect();
            *known = Some(Arc::new(Known { secrets: all, forms, words, search }));
        }
        Err(error) => tracing::error!("configuration: its secrets cannot be searched for in texts: {error}"),
    }
}

/// A secret as a text may repeat it. Percent signs, backslashes and entities are decoded in the text instead.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    if secret.contains(' ') {
        forms.push(secret.replace(' ', "+"));
    }
    // Behind an unknown text, such as the user's name in `Authorization: Basic`, Base64 has one of three forms.
    for before in 0..3_usize {
        let mut bytes = vec![0; before];
        bytes.extend(secret.as_bytes());
        // Without the characters that also depend on the neighbours.
        let whole = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
        if whole.len() >= SHORTEST_BASE64 {
            forms.extend([STANDARD, URL_SAFE].map(|it| it.encode(&bytes)[whole.clone()].to_owned()));
        }
    }
    forms.extend([STANDARD, URL_SAFE].map(|it| it.encode(secret)));
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    forms.push(hex.to_uppercase());
    forms.push(hex);
    forms
}

/// The text with each known secret replaced by `***`.
pub(super) fn hide(text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).clone();
    match known {
        Some(known) => known.hide(text),
        None => Cow::Borrowed(text),
    }
}

impl Known {
    fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found: Vec<Range<usize>> = self.find(text.as_bytes()).collect();
        if let Some(decoded) = Decoded::of(text) {
            found.extend(self.find(&decoded.bytes).map(|at| decoded.place(at)));
        }
        found.extend(self.cut_off(text));
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_by_key(|at| (at.start, at.end));
        let mut shown = String::with_capacity(text.len());
        let mut end = 0;
        for at in found {
            let start = text.floor_char_boundary(at.start);
            if start >= end {
                shown.push_str(&text[end..start]);
                shown.push_str(HIDDEN);
            }
            end = end.max(text.ceil_char_boundary(at.end));
        }
        shown.push_str(&text[end..]);
        Cow::Owned(shown)
    }

    fn find(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let is_letter = |at: Option<usize>| {
            at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80)
        };
        let fits = move |found: &Match| {
            !self.words[found.pattern().as_usize()]
                || !is_letter(found.start().checked_sub(1)) && !is_letter(Some(found.end()))
        };
        self.search.find_iter(text).filter(fits).map(|found| found.range())
    }

    /// The beginning of a secret at the end of a text that was cut within it.
    fn cut_off(&self, text: &str) -> Option<Range<usize>> {
        let end = text.trim_end_matches('…').len();
        let text = &text.as_bytes()[..end];
        let longest = |form: &String| {
            (SHORTEST_SECRET..form.len()).rev().find(|length| text.ends_with(&form.as_bytes()[..*length]))
        };
        self.forms.iter().filter_map(longest).max().map(|length| end - length..end)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{super::redact, remember};

    /// The registry serves the whole process: no other test has these.
    fn learn() {
        remember(["Zq9-long\"s&cr t%".to_owned(), "zQ7w".to_owned(), "zq".to_owned(), String::new()]);
    }

    #[test]
    fn a_secret_of_the_configuration_is_hidden_in_every_form() {
        learn();
        for text in [
            "ERR got Zq9-long\"s&cr t%!",
            "xxZq9-long\"s&cr t%yy",
            "/login?user=a&q=Zq9-long%22s%26cr%20t%25&x",
            "/login?q=Zq9-long%22s%26cr+t%25",
            r#"{"error":"no user Zq9-long\"s&cr t%"}"#,
            r"\u005aq9-long\u0022s\u0026cr t\x25",
            "<p>Zq9-long&quot;s&amp;cr t%</p> <p>Zq9-long&#34;s&#x26;cr t%</p>",
            "it got dXNlcjpacTktbG9uZyJzJmNyIHQl",
            "it got WnE5LWxvbmcicyZjciB0JQ==",
            "5a71392d6c6f6e672273266372207425",
        ] {
            let shown = redact(text);
            assert!(shown.contains("***"), "{text}: {shown}");
            for part in ["Zq9", "q9-", "long", "cr t", "cr%20t", "cr+t", "TktbG9u", "LWxvbm", "2d6c6f"] {
                assert!(!shown.contains(part), "{text}: {shown}");
            }
        }
    }

    #[test]
    fn a_secret_that_a_clip_has_cut_is_hidden_too() {
        learn();
        assert_eq!(redact("it answered Zq9-lon"), "it answered ***");
        assert_eq!(redact("it answered Zq9-lon…"), "it answered ***…");
    }

    #[test]
    fn a_short_secret_is_hidden_as_a_word_and_a_shorter_one_not_at_all() {
        learn();
        assert_eq!(redact("got zQ7w, (zQ7w)"), "got ***, (***)");
        assert!(matches!(redact("azQ7wb zq é"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_short_secret_is_hidden_in_base64_and_in_hexadecimal_digits() {
        remember(["hunTer2".to_owned(), "zQ7w".to_owned()]);
        for text in [
            "got dTpodW5UZXIy!",
            "got dXM6aHVuVGVyMg==",
            "got dXNyOmh1blRlcjI=",
            "got aHVuVGVyMg==",
            "68756e54657232",
        ] {
            let shown = redact(text);
            assert!(shown.contains("***"), "{text}: {shown}");
        }
        // The shortest are hidden where they are all of the text.
        assert_eq!(redact("got elE3dw== 7a513777"), "got *** ***");
    }
}
