//! Who may ask over HTTP, and how it is encrypted.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{read, secret::Secret, values::At};

/// A shorter token can be guessed.
const TOKEN_LEAST: usize = 16;

/// The keys of `tls` in `[http]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServedTlsKeys {
    /// A file of the certificate in PEM that is shown to clients, and of those that sign it.
    #[schemars(required, regex(pattern = "^/"))]
    pub(super) cert: At<String>,
    /// The file of that certificate's private key in PEM.
    #[schemars(required, regex(pattern = "^/"))]
    pub(super) key: At<String>,
}

/// What every client of HTTP has to bring along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpToken {
    pub file: PathBuf,
    pub text: Secret,
}

impl HttpToken {
    /// Reads it. It may block for some seconds. The error names the file, and says what is wrong and what to do.
    pub fn read(file: &Path) -> Result<Self, String> {
        let content = read::token(file)?;
        let shown = file.display();
        if content.readable_by_all || content.writable_by_all {
            return Err(format!(
                "the token file {shown} may be read or written by every user of this host; take their right away \
                 (chmod 640)"
            ));
        }
        if !is_token(&content.text) {
            return Err(format!("the token in {shown} {NO_TOKEN}"));
        }
        let text = Secret::shown_as(content.text.clone(), "***", vec![content.text]);
        Ok(Self { file: file.to_owned(), text })
    }
}

/// Whether a text can be a token: long enough, and of characters that a header may have.
pub(super) fn is_token(text: &str) -> bool {
    text.len() >= TOKEN_LEAST && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What is wrong with a text that is none.
pub(super) const NO_TOKEN: &str =
    "can be guessed or not be sent; expected at least 16 characters of ASCII without blanks";
