//! The secrets of the daemon's own configuration, which are hidden wherever a text repeats them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{PoisonError, RwLock},
};

use aho_corasick::{AhoCorasick, BuildError};
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

/// A secret that lacks its last characters is hidden too if it has at least this many, and lacks one or an eighth at most.
const SHORTEST_SHORTENED: usize = 9;

/// The secrets, and what to search for. It only grows: a server may repeat a secret of an earlier configuration.
struct Known {
    secrets: BTreeSet<String>,
    /// The secrets and their encoded forms.
    forms: Vec<String>,
    /// What is searched for: a beginning that forms share, those forms, and whether they are hidden only where they are a
    /// word of its own.
    beginnings: Vec<Beginning>,
    /// Searches for each of `beginnings`, in upper and lower case.
    search: AhoCorasick,
    /// Searches for the first characters of each form, of which the end of a text may have cut off the rest.
    cut_search: AhoCorasick,
    longest_form: usize,
}

struct Beginning {
    forms: Vec<usize>,
    is_word: bool,
}

static KNOWN: RwLock<Option<Known>> = RwLock::new(None);

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
    let mut texts: BTreeMap<&str, Beginning> = BTreeMap::new();
    for (number, form) in forms.iter().enumerate() {
        let text = &form[..form.floor_char_boundary(least_of(form.len()))];
        // The same text may be a secret and a part of another one in Base64.
        let is_word = form.len() < SHORTEST_ANYWHERE && all.contains(form);
        texts.entry(text).or_insert(Beginning { forms: Vec::new(), is_word }).forms.push(number);
    }
    let first = forms.iter().map(|form| &form.as_bytes()[..SHORTEST_SECRET]);
    match searcher(texts.keys()).and_then(|search| Ok((search, searcher(first)?))) {
        Ok((search, cut_search)) => {
            let beginnings = texts.into_values().collect();
            let longest_form = forms.iter().map(String::len).max().unwrap_or_default();
            *known = Some(Known { secrets: all, forms, beginnings, search, cut_search, longest_form });
        }
        Err(error) => {
            // The log searches its own lines for secrets.
            drop(known);
            tracing::error!("configuration: its secrets cannot be searched for in texts: {error}");
        }
    }
}

fn searcher(texts: impl IntoIterator<Item: AsRef<[u8]>>) -> Result<AhoCorasick, BuildError> {
    AhoCorasick::builder().ascii_case_insensitive(true).build(texts)
}

/// How much of a form of this length is hidden where the rest is missing.
fn least_of(length: usize) -> usize {
    let least = length - (length / 8).clamp(1, length);
    if least < SHORTEST_SHORTENED { length } else { least }
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
    forms.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    forms
}

/// The text with each known secret replaced by `***`.
pub(super) fn hide(text: &str) -> Cow<'_, str> {
    let found = found(text.as_bytes());
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut end) = (String::with_capacity(text.len()), 0);
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

/// The same for bytes, which may be no text.
pub(super) fn hide_in_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    let found = found(bytes);
    if found.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let (mut shown, mut end) = (Vec::with_capacity(bytes.len()), 0);
    for at in found {
        if at.start >= end {
            shown.extend_from_slice(&bytes[end..at.start]);
            shown.extend_from_slice(HIDDEN.as_bytes());
        }
        end = end.max(at.end);
    }
    shown.extend_from_slice(&bytes[end..]);
    Cow::Owned(shown)
}

/// Where secrets are, in the order of their places. They may overlap.
fn found(text: &[u8]) -> Vec<Range<usize>> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let mut found = known.as_ref().map(|known| known.all_in(text)).unwrap_or_default();
    found.sort_by_key(|at| (at.start, at.end));
    found
}

impl Known {
    fn all_in(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = self.find(text);
        found.extend(self.cut_off(text));
        if let Some(decoded) = Decoded::of(text) {
            found.extend(self.find(&decoded.bytes).into_iter().map(|at| decoded.place(at)));
            found.extend(self.cut_off(&decoded.bytes).map(|at| decoded.place(at)));
            // With the escape that was cut.
            let cut = self.cut_off(decoded.whole());
            found.extend(cut.map(|at| decoded.place(at.start..decoded.bytes.len())));
        }
        found
    }

    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let is_letter = |at: Option<usize>| {
            at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80)
        };
        let mut found = Vec::new();
        for beginning in self.search.find_overlapping_iter(text) {
            let Beginning { forms, is_word } = &self.beginnings[beginning.pattern().as_usize()];
            let start = beginning.start();
            if *is_word && (is_letter(start.checked_sub(1)) || is_letter(Some(beginning.end()))) {
                continue;
            }
            let length = forms.iter().map(|form| common(self.forms[*form].as_bytes(), &text[start..])).max();
            found.push(start..start + length.unwrap_or_default());
        }
        found
    }

    /// The beginning of a secret that a text was cut within.
    fn cut_off(&self, mut text: &[u8]) -> Option<Range<usize>> {
        while let Some(before) = text.strip_suffix("…".as_bytes()) {
            text = before;
        }
        let last = text.len().saturating_sub(self.longest_form);
        let is_cut = |rest: &[u8], form: &[u8]| rest.len() < form.len() && common(rest, form) == rest.len();
        let mut starts =
            self.cut_search.find_overlapping_iter(&text[last..]).map(|found| last + found.start());
        let start =
            starts.find(|start| self.forms.iter().any(|form| is_cut(&text[*start..], form.as_bytes())))?;
        Some(start..text.len())
    }
}

/// How many bytes two texts begin with alike, in upper or lower case.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one.eq_ignore_ascii_case(other)).count()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{
        super::{redact, redact_bytes},
        remember,
    };

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
    fn a_secret_in_another_case_or_without_its_end_is_hidden_too() {
        remember(["Vq8-some&long/word".to_owned()]);
        for (text, shown) in [
            ("got VQ8-SOME&LONG/WORD!", "got ***!"),
            ("got vq8-some&long/wor!", "got ***!"),
            ("got vq8-some%26long%2fwo!", "got ***!"),
            ("got VQ8-some&lo", "got ***"),
            (r"got Vq8-some\u0026lo", "got ***"),
            (r"got Vq8-some\u00", "got ***"),
            ("got Vq8-some&amp", "got ***"),
            ("got vq8-some&l, Vq8", "got vq8-some&l, Vq8"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn a_secret_in_bytes_that_are_no_text_is_hidden() {
        remember(["Xq7-some&long/word".to_owned()]);
        for (bytes, shown) in [
            (&b"\xff\x00Xq7-some&long/word\xfe"[..], &b"\xff\x00***\xfe"[..]),
            (b"\xc3Xq7-some\\u0026long\\/word", b"\xc3***"),
            (b"\xffXq7-some%26", b"\xff***"),
            (b"\xff password=Yq \xff", b"\xff password=*** \xff"),
            (b"\xff\xff", b"\xff\xff"),
        ] {
            assert_eq!(redact_bytes(bytes), shown);
        }
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
