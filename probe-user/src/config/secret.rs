//! Texts that may hold a password, and how they print without it.

use std::fmt;

/// A text that may hold a password; it prints without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// What is printed instead, where the writer of the configuration marked the secret parts.
    shown: Option<String>,
}

impl Secret {
    /// Wraps a text; it prints as a URL without password, query and fragment.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), shown: None }
    }

    /// Wraps a text that prints as if it were `shown`, which must be free of secrets or a URL.
    pub fn shown_as(text: impl Into<String>, shown: impl Into<String>) -> Self {
        Self { text: text.into(), shown: Some(shown.into()) }
    }

    /// The text itself, for the one place that connects with it.
    pub fn expose(&self) -> &str {
        &self.text
    }
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
        let hook = Secret::shown_as("https://h/T0KEN", "https://h/${HOOK}");
        assert_eq!(hook.expose(), "https://h/T0KEN");
        assert_eq!(format!("{hook} {hook:?}"), "https://h/${HOOK} Secret(https://h/${HOOK})");
    }
}
