//! The checks of container engines.

use std::io;

use super::check::Check;
use crate::{
    act::container::{Answers, Containers, EngineError},
    config::Config,
    host::ProcReader,
};

/// What is left without an engine's API.
const WITHOUT: &str = "processes in containers are watched by their cgroups, under `match`";

/// One check for each socket. `config` says where they are, and whether a service needs one.
pub(super) async fn engines(config: Option<&Config>, reader: &ProcReader) -> Vec<Check> {
    let options = config.map(|config| config.containers.clone()).unwrap_or_default();
    let is_needed = config.is_some_and(|config| {
        config.services.iter().any(|service| service.container().is_some()) || config.containers.discover
    });
    let answers = Containers::new(&options, reader).identify().await;
    let one_answers = answers.iter().any(|it| it.engine.is_ok());
    answers.iter().map(|it| check(it, is_needed && !one_answers)).collect()
}

fn check(answer: &Answers, is_needed: bool) -> Check {
    let socket = answer.socket.display();
    let name = format!("containers at {socket}");
    let error = match &answer.engine {
        Ok((engine, version)) => {
            return Check::full(&name, format!("{} {version} answers", engine.name()));
        }
        Err(error) => error,
    };
    let is_absent =
        matches!(error, EngineError::Unreachable { source, .. } if source.kind() == io::ErrorKind::NotFound);
    let detail = format!("containers are not restarted by the API of an engine: {error}; {WITHOUT}");
    match (is_absent, is_needed) {
        (true, false) => Check::absent(&name, format!("no engine has a socket there; {WITHOUT}")),
        (true, true) => Check::degraded(
            &name,
            detail,
            "systemctl enable --now podman.socket or docker.socket, or set containers.podman_socket or \
             containers.docker_socket",
        ),
        (false, false) => Check::absent(&name, detail),
        (false, true) => {
            Check::degraded(&name, detail, "start the engine, or give hostprobe the right to its socket")
        }
    }
}
