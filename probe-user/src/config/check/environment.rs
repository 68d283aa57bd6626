//! The environment that a service under `exec` is given.

use std::collections::BTreeMap;

use toml::Spanned;

use super::Outside;
use crate::config::{
    error::Findings,
    secret::Secret,
    template::Template,
    values::{At, Written as _},
};

/// The variables with their values, in which `${NAME}` is a variable of the daemon's environment.
pub(super) fn environment(
    written: &At<BTreeMap<String, Spanned<String>>>,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Vec<(String, Secret)> {
    let Some(written) = written else { return Vec::new() };
    let mut variables = Vec::new();
    for (name, value) in written.get_ref() {
        let has_first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !has_first || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let message = "a variable's name has other characters; expected letters, digits and underscores";
            found.error(value.span(), message);
        }
        match fill(value.get_ref(), outside) {
            // The value is never shown.
            Ok(text) => variables.push((name.clone(), Secret::shown_as(text, "***", Vec::new()))),
            Err(message) => found.error(value.span(), message),
        }
    }
    variables
}

fn fill(value: &str, outside: &Outside<'_>) -> Result<String, String> {
    if value.contains('\0') {
        return Err("a value with a NUL character; expected one without".to_owned());
    }
    let template = Template::read(value).ok_or_else(|| {
        "a wrong variable; expected ${NAME}, which stands for a variable of the daemon's environment"
            .to_owned()
    })?;
    let filled = template.fill(outside.variable).map_err(|name| {
        format!("the environment variable {name} is not set or empty; expected it to be set for the daemon")
    })?;
    Ok(filled.expose().to_owned())
}
