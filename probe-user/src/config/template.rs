//! Addresses in a configuration file, and how their secrets get into them: `${NAME}` and `password_file`.

use schemars::Schema;

use super::{
    secret::Secret,
    values::{Written, pattern},
};
use crate::redact::is_secret_parameter;

/// An address in the configuration file; `${NAME}` is replaced by an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    written: String,
}

impl Written for Template {
    const EXPECTED: &'static str = "an address, in which only ${NAME} may follow a `$` and stands for a \
                                    variable of the environment";

    fn read(text: &str) -> Option<Self> {
        let names_are_whole = text.split("${").skip(1).all(|rest| {
            rest.split_once('}').is_some_and(|(name, _)| {
                !name.is_empty()
                    && !name.starts_with(|c: char| c.is_ascii_digit())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            })
        });
        names_are_whole.then(|| Self { written: text.to_owned() })
    }

    fn schema() -> Schema {
        // Without a lookahead, which not every editor can.
        pattern(r"(?:[^$]|\$*\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$+[^${])*\$*")
    }
}

impl Template {
    /// The address with its variables filled in, or the name of an unset variable.
    ///
    /// A value in the place of a password is percent-encoded. Any other is inserted unchanged.
    pub(super) fn fill(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Secret, String> {
        if !self.has_variables() {
            return Ok(Secret::new(&self.written));
        }
        let credentials = self.credentials_end();
        let (mut text, mut inserted) = (String::new(), Vec::new());
        let mut rest = self.written.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            let value = variable(name).filter(|value| !value.is_empty()).ok_or_else(|| name.to_owned())?;
            text.push_str(before);
            let offset = self.written.len() - rest.len() + before.len();
            if self.is_secret_at(offset) {
                inserted.push(value.clone());
            }
            text.push_str(&if offset < credentials { percent_encode(&value) } else { value });
            rest = after;
        }
        text.push_str(rest);
        Ok(Secret::shown_as(text, &self.written, inserted))
    }

    /// Whether the environment provides a part of it.
    pub(super) fn has_variables(&self) -> bool {
        self.written.contains("${")
    }

    /// Whether the file itself contains a password, for all its readers.
    pub(super) fn holds_password(&self) -> bool {
        let (start, end) = (self.authority_start(), self.credentials_end());
        let in_credentials = self.written[start.min(end)..end]
            .split_once(':')
            .is_some_and(|(_, password)| password.len() > 1 && !password.starts_with("${"));
        let in_query = self.written.split_once('?').is_some_and(|(_, query)| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .any(|(key, value)| is_secret_parameter(key) && !value.starts_with("${"))
        });
        in_credentials || in_query
    }

    /// Whether a variable at this offset stands for a secret: not for a user, a host or a port.
    fn is_secret_at(&self, offset: usize) -> bool {
        let start = self.authority_start();
        if offset < start {
            // A scheme is one word, also one from a variable. What else stands before it is no part of the address.
            let is_of_scheme = |char: char| char.is_ascii_alphanumeric() || "+-._${}".contains(char);
            return !self.written[..start].trim_end_matches("://").chars().all(is_of_scheme);
        }
        let end = self.written[start..].find(['/', '?', '#']).map_or(self.written.len(), |at| start + at);
        match offset < self.credentials_end() {
            true => self.written[start..offset].contains(':'),
            false => offset > end,
        }
    }

    fn authority_start(&self) -> usize {
        self.written.find("://").map_or(0, |scheme| scheme + 3)
    }

    /// The offset of the `@` that ends user and password, or 0.
    fn credentials_end(&self) -> usize {
        let start = self.authority_start();
        let authority = self.written[start..].split(['/', '?', '#']).next().unwrap_or_default();
        authority.rfind('@').map_or(0, |at| start + at + 1)
    }
}

/// The address with this password; None if it has no place for one.
pub(super) fn with_password(address: &Secret, password: &str) -> Option<Secret> {
    let (text, password_of_url) = (address.expose(), percent_encode(password));
    let at = text.find("://")? + 3;
    let end = text[at..].find(['/', '?', '#']).map_or(text.len(), |end| at + end);
    let with = if text.starts_with("redis+unix:") {
        // Its user and password are options.
        let joint = if text.contains('?') { '&' } else { '?' };
        if text.contains("pass=") {
            return None;
        }
        format!("{text}{joint}pass={password_of_url}")
    } else {
        let (user, host) = text[at..end].rsplit_once('@').unwrap_or(("", &text[at..end]));
        let (user, known) = user.split_once(':').unwrap_or((user, ""));
        if !known.is_empty() {
            return None;
        }
        format!("{}{user}:{password_of_url}@{host}{}", &text[..at], &text[end..])
    };
    Some(Secret::shown_as(with, address.to_string(), vec![password.to_owned()]))
}

fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<Secret, String> {
        let variable = |name: &str| match name {
            "PW" => Some("p@s/s%".to_owned()),
            "PATH_TOKEN" => Some("T/B".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Template::read(text).unwrap().fill(&variable)
    }

    #[test]
    fn a_password_from_the_environment_is_encoded_and_never_shown() {
        let url = fill("postgres://u:${PW}@h/db?application_name=a@b").unwrap();
        assert_eq!(url.expose(), "postgres://u:p%40s%2Fs%25@h/db?application_name=a@b");
        assert_eq!(url.to_string(), "postgres://u@h/db");
        assert!(url.parts().contains(&"p@s/s%".to_owned()), "{:?}", url.parts());
        assert_eq!(fill("http://${PATH_TOKEN}:80/x").unwrap().parts(), [""; 0], "a host is no secret");
        let hook = fill("https://h/${PATH_TOKEN}/x").unwrap();
        assert_eq!(hook.parts(), ["T/B"]);
        assert_eq!(
            (hook.expose(), hook.to_string().as_str()),
            ("https://h/T/B/x", "https://h/${PATH_TOKEN}/x")
        );
    }

    #[test]
    fn what_stands_before_an_address_is_a_secret_and_its_scheme_is_not() {
        assert_eq!(fill("${PATH_TOKEN}://h/").unwrap().parts(), [""; 0], "a scheme");
        let parts = fill("x ${PATH_TOKEN} postgres://u:${PW}@h/").unwrap().parts();
        assert!(["T/B", "p@s/s%"].iter().all(|it| parts.contains(&(*it).to_owned())), "{parts:?}");
    }

    #[test]
    fn an_unset_or_empty_variable_is_named() {
        assert_eq!(fill("http://${NOWHERE}/"), Err("NOWHERE".to_owned()));
        assert_eq!(fill("http://${EMPTY}/"), Err("EMPTY".to_owned()));
    }

    #[test]
    fn a_broken_variable_is_refused() {
        for text in ["http://${", "http://${}", "http://${A-B}", "http://${1}"] {
            assert_eq!(Template::read(text), None, "{text}");
        }
        assert!(Template::read("http://h/$x}").is_some());
    }

    #[test]
    fn a_password_in_the_file_is_noticed() {
        let holds = |text: &str| Template::read(text).unwrap().holds_password();
        assert!(holds("redis://:pw@h") && holds("http://h/?api_key=5") && holds("postgres://u:p@h"));
        assert!(!holds("redis://h") && !holds("postgres://u:${PW}@h") && !holds("http://h/?token=${T}"));
        assert!(!holds("postgres://u@h/x:y@z") && !holds("postgres://u:@h"));
    }

    #[test]
    fn a_password_from_a_file_takes_its_place() {
        let url = with_password(&Secret::new("redis://127.0.0.1:6379"), "100%41 é").unwrap();
        assert_eq!(url.expose(), "redis://:100%2541%20%C3%A9@127.0.0.1:6379");
        assert_eq!(url.to_string(), "redis://127.0.0.1:6379");
        assert_eq!(with_password(&Secret::new("127.0.0.1:80"), "x"), None);
    }
}
