//! What an HTTP probe sends and expects beside the address, the status and the text.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::{outside::Outside, value::absolute};
use crate::{
    config::{
        error::Findings,
        http::{HttpMethod, HttpOptions},
        protocol::{ExpectKeys, ProbeKeys},
        read,
        secret::Secret,
        spanned::Spanned,
        template::Template,
        values::{At, Table, Written as _},
    },
    redact::is_secret_name,
};

/// No probe needs a longer one.
const BODY_MAX: usize = 64 << 10;

/// Headers that the probe itself needs to be as they are.
const OWN_HEADERS: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];

/// A text with its variables filled in.
pub(super) struct Filled {
    pub(super) text: String,
    /// The values of the variables.
    pub(super) inserted: Vec<String>,
}

pub(super) fn http(written: &ProbeKeys, outside: &Outside<'_>, found: &mut Findings) -> HttpOptions {
    let mut options = HttpOptions {
        method: written.method.as_ref().map(|method| method.get_ref().0).unwrap_or_default(),
        redirects: written.redirects.as_ref().is_some_and(|redirects| *redirects.get_ref()),
        version: written.http_version.as_ref().map(|version| version.get_ref().0).unwrap_or_default(),
        expect_json: json(&written.expect, found),
        ..HttpOptions::default()
    };
    for (name, value) in written.headers.iter().flat_map(Spanned::get_ref) {
        header(name, value, outside, &mut options, found);
    }
    token(&written.token_file, &mut options, found);
    if let Some(body) = &written.body {
        if body.get_ref().len() > BODY_MAX {
            found.error(body.span(), format!("`body` is longer than {BODY_MAX} bytes; expected less"));
        }
        if matches!(options.method, HttpMethod::Get | HttpMethod::Head) {
            found.warn(
                body.span(),
                "most servers do not read the body of a GET or HEAD request; set `method`",
            );
        }
        if let Some(filled) = fill(body, outside, found) {
            options.secrets.extend(filled.inserted.into_iter().map(hidden));
            options.body = Some(hidden(filled.text));
        }
    }
    let needs_body = written.expect.as_ref().is_some_and(|expect| {
        let Table(expect) = expect.get_ref();
        expect.body_contains.is_some() || expect.json.is_some()
    });
    if let Some(method) = written.method.as_ref().filter(|_| needs_body && options.method == HttpMethod::Head)
    {
        found.error(method.span(), "the answer to HEAD has no body; expected another `method`, or neither `body_contains` nor `json`");
    }
    options
}

fn header(
    name: &str,
    value: &Spanned<String>,
    outside: &Outside<'_>,
    options: &mut HttpOptions,
    found: &mut Findings,
) {
    if HeaderName::try_from(name).is_err() {
        found.error(value.span(), "a wrong header name; expected one such as \"X-Request-Id\"");
        return;
    }
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        found.error(value.span(), format!("the probe sets the header `{name}` itself; expected another one"));
        return;
    }
    let Some(filled) = fill(value, outside, found) else { return };
    if HeaderValue::try_from(&filled.text).is_err() {
        found.error(
            value.span(),
            format!("a wrong value of the header `{name}`; expected visible characters"),
        );
        return;
    }
    let is_secret = is_secret_header(name);
    if is_secret && filled.inserted.is_empty() && outside.readable_by_others {
        let warning = "this file contains a secret, and others may read it: take their right away (chmod 600), \
                       or use ${NAME}";
        found.warn(value.span(), warning);
    }
    if is_secret {
        options.secrets.extend(secrets_of(&filled.text).into_iter().map(hidden));
    }
    options.secrets.extend(filled.inserted.into_iter().map(hidden));
    options.headers.push((name.to_owned(), hidden(filled.text)));
}

pub(super) fn is_secret_header(name: &str) -> bool {
    let always = ["authorization", "proxy-authorization", "cookie"];
    always.contains(&name.to_ascii_lowercase().as_str()) || is_secret_name(name)
}

/// A header's value, what follows its scheme, and the password in the latter.
pub(super) fn secrets_of(value: &str) -> Vec<String> {
    let mut secrets = vec![value.to_owned()];
    if let Some((scheme, credentials)) = value.split_once(' ') {
        secrets.push(credentials.trim().to_owned());
        let decoded =
            STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        secrets
            .extend(decoded.and_then(|login| login.split_once(':').map(|(_, password)| password.to_owned())));
    }
    secrets
}

fn token(written: &At<String>, options: &mut HttpOptions, found: &mut Findings) {
    let Some(file) = written else { return };
    if options.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        found.error(file.span(), "both `token_file` and the header `Authorization`; expected one of them");
    }
    let Some(path) = absolute(file, "the absolute path of a file that holds the token alone", found) else {
        return;
    };
    let content = match read::token(&path) {
        Ok(content) => content,
        Err(message) => return found.error(file.span(), message),
    };
    if content.readable_by_others {
        found.warn(
            file.span(),
            format!("the token file {} may be read by others (chmod 600)", path.display()),
        );
    }
    let value = format!("Bearer {}", content.text);
    if HeaderValue::try_from(&value).is_err() {
        found
            .error(file.span(), "the token has characters that no header may have; expected the token alone");
        return;
    }
    options.secrets.push(hidden(content.text));
    options.headers.push(("Authorization".to_owned(), hidden(value)));
}

fn json(expect: &At<Table<ExpectKeys>>, found: &mut Findings) -> Vec<(String, Value)> {
    let mut wanted = Vec::new();
    let keys = expect.as_ref().and_then(|expect| expect.get_ref().0.json.as_ref());
    for (key, value) in keys.iter().flat_map(|keys| keys.get_ref()) {
        // A plain name is a key of the outermost object.
        let pointer = if key.is_empty() || key.starts_with('/') {
            key.clone()
        } else {
            format!("/{}", key.replace('~', "~0").replace('/', "~1"))
        };
        match as_json(value.get_ref()) {
            Some(value) => wanted.push((pointer, value)),
            None => found.error(value.span(), "JSON has no dates and no infinite numbers; expected text, a number, true or false, a list or a table"),
        }
    }
    wanted
}

fn as_json(value: &toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::Number(serde_json::Number::from_f64(*number)?),
        toml::Value::Boolean(is) => Value::Bool(*is),
        toml::Value::Datetime(_) => return None,
        toml::Value::Array(list) => Value::Array(list.iter().map(as_json).collect::<Option<_>>()?),
        toml::Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| Some((key.clone(), as_json(value)?)));
            Value::Object(entries.collect::<Option<_>>()?)
        }
    })
}

pub(super) fn hidden(text: String) -> Secret {
    Secret::shown_as(text, "***", Vec::new())
}

/// A text in which `${NAME}` stands for a variable.
pub(super) fn fill(written: &Spanned<String>, outside: &Outside<'_>, found: &mut Findings) -> Option<Filled> {
    if Template::read(written.get_ref()).is_none() {
        let message =
            "a wrong variable; expected ${NAME}, which stands for a variable of the daemon's environment";
        found.error(written.span(), message);
        return None;
    }
    let (mut text, mut inserted, mut rest) = (String::new(), Vec::new(), written.get_ref().as_str());
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        let Some(value) = (outside.variable)(name).filter(|value| !value.is_empty()) else {
            let message = format!(
                "the environment variable {name} is not set or empty; expected it to be set for the daemon"
            );
            found.error(written.span(), message);
            return None;
        };
        text.push_str(before);
        text.push_str(&value);
        inserted.push(value);
        rest = after;
    }
    text.push_str(rest);
    Some(Filled { text, inserted })
}
