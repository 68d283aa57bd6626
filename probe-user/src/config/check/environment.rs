//! The environment that a service under `exec` is given.

use std::collections::BTreeMap;

use super::{Outside, value::absolute};
use crate::{
    config::{
        environment_file::{self, is_name},
        error::Findings,
        file, read,
        secret::Secret,
        spanned::Spanned,
        template::Template,
        values::Written as _,
    },
    redact,
};

/// So many wrong lines of a file are reported: the operator mends the first ones first.
const ERRORS_MAX: usize = 20;

/// The variables of the service's file and then those of the service, which win. Values are never shown.
pub(super) fn environment(
    written: &file::Service,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Vec<(String, Secret)> {
    let mut variables = BTreeMap::new();
    if let Some(path) = &written.environment_file {
        variables.extend(of_file(path, found));
    }
    for (name, value) in written.environment.iter().flat_map(Spanned::get_ref) {
        if !is_name(name) {
            let message = "a variable's name has other characters; expected letters, digits and underscores";
            found.error(value.span(), message);
        }
        match fill(value.get_ref(), outside) {
            Ok(text) => _ = variables.insert(name.clone(), text),
            Err(message) => found.error(value.span(), message),
        }
    }
    let secret = |text: String| Secret::shown_as(text, "***", Vec::new());
    variables.into_iter().map(|(name, text)| (name, secret(text))).collect()
}

/// The variables of a file. Its errors have the place of the key and the line in the file.
fn of_file(path: &Spanned<String>, found: &mut Findings) -> Vec<(String, String)> {
    let Some(file) = absolute(path, "the absolute path of a file with variables", found) else {
        return Vec::new();
    };
    let content = match read::environment(&file) {
        Ok(content) => content,
        Err(message) => {
            found.error(path.span(), message);
            return Vec::new();
        }
    };
    let variables = environment_file::parse(&content.text).unwrap_or_else(|errors| {
        for (line, wrong) in errors.into_iter().take(ERRORS_MAX) {
            found.error(path.span(), format!("{}:{line}: {wrong}", file.display()));
        }
        Vec::new()
    });
    if content.writable_by_all {
        let file = file.display();
        found.warn(
            path.span(),
            format!("the environment file {file} may be changed by every user (chmod o-w)"),
        );
    }
    if content.readable_by_others && variables.iter().any(|(name, _)| redact::is_secret_name(name)) {
        let file = file.display();
        found.warn(
            path.span(),
            format!("the environment file {file} holds a secret and may be read by others (chmod 600)"),
        );
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
