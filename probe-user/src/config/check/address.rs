//! Addresses of probes and webhooks: variables, password file, and the form that the protocol asks for.

use super::{outside::Outside, value::absolute};
use crate::config::{
    address::{AddressForm, Wrong},
    error::Findings,
    read,
    secret::Secret,
    spanned::Spanned,
    template::{self, Template},
    values::{At, Text},
};

/// The address with its secrets put in, if it is right.
pub(super) fn address(
    written: &Spanned<Text<Template>>,
    password_file: &At<String>,
    form: &AddressForm,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Secret> {
    let Text(template) = written.get_ref();
    if template.holds_password() && outside.readable_by_others {
        let warning = "this file contains a password, and others may read it: take their right away (chmod \
                       600), or use `password_file` or ${NAME}";
        found.warn(written.span(), warning);
    }
    let filled = template.fill(outside.variable).map_err(|name| {
        format!("the environment variable {name} is not set or empty; expected it to be set for the daemon")
    });
    let checked = filled.and_then(|address| {
        if form.has_scheme_of(address.expose()) {
            Ok(address)
        } else {
            Err(format!("a wrong address; expected {}", form.expected))
        }
    });
    let address = match checked {
        Ok(address) => address,
        Err(message) => {
            found.error(written.span(), message);
            return None;
        }
    };
    let address = match password_file {
        Some(file) => insert_password(&address, file, form, found)?,
        None => address,
    };
    match (form.check)(address.expose()) {
        Ok(()) => return Some(address),
        Err(Wrong::Because(why)) => found.error(written.span(), format!("{why}; expected {}", form.expected)),
    }
    None
}

fn insert_password(
    address: &Secret,
    file: &Spanned<String>,
    form: &AddressForm,
    found: &mut Findings,
) -> Option<Secret> {
    let path = absolute(file, "the absolute path of a file that holds the password alone", found)?;
    let content = match read::password(&path) {
        Ok(content) => content,
        Err(message) => {
            found.error(file.span(), message);
            return None;
        }
    };
    if content.readable_by_others {
        let warning = format!("the password file {} may be read by others (chmod 600)", path.display());
        found.warn(file.span(), warning);
    }
    let with_password = if form.is_url() { template::with_password(address, &content.text) } else { None };
    if with_password.is_none() {
        let message = "the address beside it has a password already, or no place for one; expected \
                       `password_file` beside a URL with a host and without a password";
        found.error(file.span(), message);
    }
    with_password
}
