//! Texts that may hold a password, and how they print without it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Url;

use crate::redact::is_secret_parameter;

/// A text that may hold a password; it prints without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// What is printed instead, where the writer of the configuration marked the secret parts.
    shown: Option<String>,
    /// The secrets that were put into it.
    inserted: Vec<String>,
}

impl Secret {
    /// Wraps a text; it prints as a URL without password, query and fragment.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), shown: None, inserted: Vec::new() }
    }

    /// Wraps a text with `inserted` secrets. It prints as if it were `shown`, which must be free of secrets or a URL.
    pub fn shown_as(text: impl Into<String>, shown: impl Into<String>, inserted: Vec<String>) -> Self {
        Self { text: text.into(), shown: Some(shown.into()), inserted }
    }

    /// The text itself, for the one place that connects with it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Its secret parts, which no text may repeat: what was inserted, the password, a user that stands for one, and
    /// values of the query with a secret's name. Each as it is written and decoded.
    pub fn parts(&self) -> Vec<String> {
        let mut parts = self.inserted.clone();
        if let Ok(url) = Url::parse(&self.text) {
            let user =
                Some(url.username()).filter(|user| !user.is_empty() && url.scheme().starts_with("http"));
            let written = url.password().or(user).map(str::to_owned);
            parts.extend(written.iter().map(|text| percent_decode(text)));
            parts.extend(written);
            if let Some(password) = url.password() {
                // As `Authorization: Basic` has it.
                let login = format!("{}:{}", percent_decode(url.username()), percent_decode(password));
                parts.push(STANDARD.encode(login));
            }
            let query = url.query_pairs().filter(|(name, _)| is_secret_parameter(name));
            parts.extend(query.map(|(_, value)| value.into_owned()));
        }
        parts
    }

    /// The parts of its path that are probably a token, such as those of a chat's webhook.
    pub fn path_tokens(&self) -> Vec<String> {
        // `services` and `v2` are no tokens.
        const SHORTEST_TOKEN: usize = 8;
        let is_token = |part: &&str| {
            part.len() >= SHORTEST_TOKEN
                && part.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        };
        let url = Url::parse(&self.text).ok();
        let parts = url.iter().filter_map(Url::path_segments).flatten().filter(is_token);
        parts.flat_map(|part| [part.to_owned(), percent_decode(part)]).collect()
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let digits = others.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Display for Secret {
    /// A URL without its password, query and fragment; any other text as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.shown.as_ref().unwrap_or(&self.text);
        let Some((scheme, rest)) = text.split_once("://") else { return f.write_str(text) };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let user = user.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{user}@{host}{path}")
            }
            None => write!(f, "{scheme}://{authority}{path}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_prints_without_its_password() {
        let url = Secret::new("postgres://probe:s3c@ret@db:5432/orders?sslpassword=x");
        assert_eq!(url.to_string(), "postgres://probe@db:5432/orders");
        assert_eq!(format!("{url:?}"), "Secret(postgres://probe@db:5432/orders)");
        assert_eq!(Secret::new("http://h/hook?token=x").to_string(), "http://h/hook");
        assert_eq!(Secret::new("127.0.0.1:80").to_string(), "127.0.0.1:80");
    }

    #[test]
    fn a_marked_part_prints_as_its_mark() {
        let hook = Secret::shown_as("https://h/T0KEN", "https://h/${HOOK}", Vec::new());
        assert_eq!(hook.expose(), "https://h/T0KEN");
        assert_eq!(format!("{hook} {hook:?}"), "https://h/${HOOK} Secret(https://h/${HOOK})");
    }

    #[test]
    fn the_parts_of_a_secret_are_its_password_and_its_tokens_and_not_its_place() {
        let parts = |text| Secret::new(text).parts();
        let login = "cHJvYmU6YUBi";
        assert_eq!(parts("postgres://probe:a%40b@db/x?sslpassword=c%2F"), ["a@b", "a%40b", login, "c/"]);
        assert_eq!(parts("http://t0ken@h/x?api_key=k&page=2"), ["t0ken", "t0ken", "k"]);
        let query = "http://h/?pass=a&pwd=b&auth=c&sig=d&code=e&page=2&encoding=f&sigma=g";
        assert_eq!(parts(query), ["a", "b", "c", "d", "e"]);
        assert_eq!(parts("postgres://probe@db/x"), [""; 0]);
        assert_eq!(parts("db:5432"), [""; 0]);
        let hook = Secret::new("https://hooks.test/services/T024BE7LD/xoxb-1%2F2?x=1");
        assert_eq!(hook.path_tokens(), ["T024BE7LD", "T024BE7LD", "xoxb-1%2F2", "xoxb-1/2"]);
        assert_eq!(Secret::new("http://h/api/v2/alerts").path_tokens(), [""; 0]);
    }
}
