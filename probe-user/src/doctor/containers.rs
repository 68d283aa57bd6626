//! The checks of container engines.

use std::io;

use super::check::Check;
use crate::{
    act::container::{Answers, Containers, EngineError},
    config::Config,
    host::ProcReader,
};

/// The name of the check.
const NAME: &str = "containers";

/// What is left without an engine's API.
const WITHOUT: &str = "processes in containers are watched by their cgroups, under `match`";

/// One check for each socket there is, or one that says that there is none. `config` says where they are, and whether a
/// service needs one.
pub(super) async fn engines(config: Option<&Config>, reader: &ProcReader) -> Vec<Check> {
    let options = config.map(|config| config.containers.clone()).unwrap_or_default();
    let is_needed = config.is_some_and(|config| {
        config.services.iter().any(|service| service.container().is_some()) || config.containers.discover
    });
    let answers = Containers::new(&options, reader).identify().await;
    let one_answers = answers.iter().any(|it| it.engine.is_ok());
    let present: Vec<_> = answers.iter().filter(|it| !is_absent(it)).collect();
    match present.is_empty() {
        true => vec![none(is_needed)],
        false => present.into_iter().map(|it| check(it, is_needed && !one_answers)).collect(),
    }
}

fn is_absent(answer: &Answers) -> bool {
    let Err(EngineError::Unreachable { source, .. }) = &answer.engine else { return false };
    source.kind() == io::ErrorKind::NotFound
}

fn none(is_needed: bool) -> Check {
    let detail = format!("no engine has a socket; {WITHOUT}");
    match is_needed {
        false => Check::absent(NAME, detail),
        true => Check::degraded(
            NAME,
            detail,
            "systemctl enable --now podman.socket or docker.socket, or set containers.podman_socket or \
             containers.docker_socket",
        ),
    }
}

fn check(answer: &Answers, is_needed: bool) -> Check {
    let socket = answer.socket.display();
    let error = match &answer.engine {
        Ok((engine, version)) => {
            return Check::full(NAME, format!("{} {version} answers at {socket}", engine.name()));
        }
        Err(error) => error,
    };
    let detail = format!("not restarted by the API at {socket}: {error}; {WITHOUT}");
    match is_needed {
        false => Check::absent(NAME, detail),
        true => Check::degraded(NAME, detail, "start the engine, or give hostprobe the right to its socket"),
    }
}
