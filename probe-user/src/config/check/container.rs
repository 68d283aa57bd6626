//! Containers, and the sockets of their engines.

use std::path::PathBuf;

use super::value::absolute;
use crate::{
    config::{
        container::{Container, ContainerKeys, ContainerOptions},
        error::Findings,
        spanned::Spanned,
        values::{At, Text, quote},
    },
    fact::ContainerEngine,
};

/// `sun_path` (`unix(7)`) has 108 bytes, the last of which is zero.
const LONGEST_SOCKET: usize = 107;

/// Engines allow longer names, which no person would type.
const LONGEST_NAME: usize = 255;

pub(super) fn options(written: &ContainerKeys, found: &mut Findings) -> ContainerOptions {
    let default = ContainerOptions::default();
    ContainerOptions {
        docker_socket: socket(&written.docker_socket, default.docker_socket, found),
        podman_socket: socket(&written.podman_socket, default.podman_socket, found),
        discover: written.discover.unwrap_or(default.discover),
        discover_restarts: written.discover_restarts.unwrap_or(default.discover_restarts),
    }
}

fn socket(written: &At<String>, default: Option<PathBuf>, found: &mut Findings) -> Option<PathBuf> {
    let Some(socket) = written else { return default };
    if socket.get_ref().is_empty() {
        return None;
    }
    let path = absolute(socket, "the absolute path of a socket, or \"\" for none", found)?;
    if path.as_os_str().len() > LONGEST_SOCKET {
        let message = format!("a path of more than {LONGEST_SOCKET} bytes; expected a shorter one");
        found.error(socket.span(), message);
        return None;
    }
    Some(path)
}

/// The container with this name.
pub(super) fn container(
    name: &Spanned<String>,
    engine: Option<&Spanned<Text<ContainerEngine>>>,
    found: &mut Findings,
) -> Option<Container> {
    let text = name.get_ref();
    if !is_name(text) {
        let message = format!(
            "found {}; expected the name of a container: letters, digits, dots, hyphens and underscores, and no slash",
            quote(text)
        );
        found.error(name.span(), message);
        return None;
    }
    Some(Container { name: text.clone(), engine: engine.map(|engine| engine.get_ref().0) })
}

/// Whether an engine accepts it as a name (`RestrictedNameChars` of Docker, `NameRegex` of Podman).
fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}
