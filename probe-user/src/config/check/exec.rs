//! The keys of a service under `exec`.

use std::{ops::Range, path::PathBuf, time::Duration};

use super::{
    environment::environment,
    outside::Outside,
    value::{absolute, command, time, whole},
};
use crate::{
    account::{AccountError, Kind},
    config::{
        error::Findings,
        exec::{Exec, ResourceLimit, resource},
        file,
        spanned::Spanned,
        values::{At, Size, Text, quote},
    },
};

/// The least `output_max`. A smaller file would hold less than one piece of output.
const OUTPUT_MAX_LEAST: u64 = 64 << 10;

/// The longest `stop_timeout`. The daemon's own end waits for it.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// The command, if all its keys are right.
pub(super) fn exec(
    written: &file::Service,
    words: &Spanned<Vec<Spanned<String>>>,
    name: &str,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Exec> {
    let path = |written: &At<String>, default: PathBuf, found: &mut Findings| {
        let given = written.as_ref().map(|path| absolute(path, "an absolute path", found));
        given.unwrap_or(Some(default))
    };
    let defaults = Exec::default();
    let command = command(words, "exec", found);
    let output = path(&written.output, format!("/var/log/hostprobe/{name}.log").into(), found);
    let output_max = output_max(written, found);
    let output_keep = whole(&written.output_keep, "output_keep", 0..=1000, found);
    let directory = path(&written.directory, defaults.directory, found);
    let environment = environment(written, outside, found);
    let user = account(&written.user, Kind::User, outside, found);
    let group = account(&written.group, Kind::Group, outside, found);
    let rlimits = rlimits(written, found);
    let stop_timeout = time(&written.stop_timeout, "stop_timeout", Duration::ZERO..=STOP_TIMEOUT_MAX, found);
    Some(Exec {
        command: command?,
        output: output?,
        output_max,
        output_keep: output_keep.unwrap_or(defaults.output_keep),
        output_stamp: written.output_stamp.as_ref().is_some_and(|stamp| *stamp.get_ref()),
        directory: directory?,
        environment,
        user,
        group,
        umask: written.umask.as_ref().map_or(defaults.umask, |umask| umask.get_ref().0.0),
        rlimits,
        stop_signal: written.stop_signal.as_ref().map_or(defaults.stop_signal, |signal| signal.get_ref().0),
        stop_timeout: stop_timeout.unwrap_or(defaults.stop_timeout),
    })
}

/// The size at which the output is rotated.
fn output_max(written: &file::Service, found: &mut Findings) -> Option<u64> {
    let Some(max) = &written.output_max else {
        if let Some(keep) = &written.output_keep {
            let message = "`output_keep` without `output_max`; expected a size at which the file is rotated";
            found.error(keep.span(), message);
        }
        return None;
    };
    Some(least_output_max(max, found))
}

/// The size of an `output_max`, of which a smaller one is refused.
pub(super) fn least_output_max(max: &Spanned<Text<Size>>, found: &mut Findings) -> u64 {
    let Text(Size(bytes)) = *max.get_ref();
    if bytes < OUTPUT_MAX_LEAST {
        found.error(max.span(), format!("`output_max` is {bytes} bytes; expected at least \"64KiB\""));
    }
    bytes
}

/// Complains about keys of a command in a service that has none.
pub(super) fn keys_need_a_command(written: &file::Service, found: &mut Findings) {
    fn span<T>(value: &At<T>) -> Option<Range<usize>> {
        value.as_ref().map(Spanned::span)
    }
    let spans = [
        ("output", span(&written.output)),
        ("output_max", span(&written.output_max)),
        ("output_keep", span(&written.output_keep)),
        ("output_stamp", span(&written.output_stamp)),
        ("directory", span(&written.directory)),
        ("environment", span(&written.environment)),
        ("environment_file", span(&written.environment_file)),
        ("user", span(&written.user)),
        ("group", span(&written.group)),
        ("umask", span(&written.umask)),
        ("rlimits", span(&written.rlimits)),
        ("stop_signal", span(&written.stop_signal)),
        ("stop_timeout", span(&written.stop_timeout)),
        ("start_after", span(&written.start_after)),
    ];
    for (key, span) in spans {
        if let Some(span) = span {
            let message = format!("`{key}` in a service without `exec`; expected it beside `exec` only");
            found.error(span, message);
        }
    }
}

/// The name of a user or a group. Where the host cannot tell now whether it has it, the start of the service will.
pub(super) fn account(
    written: &At<String>,
    kind: Kind,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<String> {
    let name = written.as_ref()?;
    match (outside.account)(kind, name.get_ref()) {
        Ok(()) => {}
        Err(AccountError::Unknown { .. }) => {
            let quoted = quote(name.get_ref());
            let message = format!("this host has no {kind} {quoted}; expected the name or the number of one");
            found.error(name.span(), message);
        }
        Err(error @ AccountError::Lookup { .. }) => found.warn(name.span(), error.to_string()),
    }
    Some(name.get_ref().clone())
}

fn rlimits(written: &file::Service, found: &mut Findings) -> Vec<ResourceLimit> {
    let mut limits = Vec::new();
    for (name, value) in written.rlimits.iter().flat_map(Spanned::get_ref) {
        let limit = value.get_ref();
        match resource(name) {
            Ok(_) if limit.1.is_some_and(|hard| limit.0.is_none_or(|soft| soft > hard)) => {
                let message =
                    format!("the soft limit of {name} is above the hard one; expected it not to be");
                found.error(value.span(), message);
            }
            Ok(resource) => limits.push(ResourceLimit { resource, soft: limit.0, hard: limit.1 }),
            Err(near) => {
                let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                let message = format!(
                    "unknown resource {}{hint}; expected a name of prlimit(1) in lower case, such as `nofile`",
                    quote(name)
                );
                found.error(value.span(), message);
            }
        }
    }
    limits
}
