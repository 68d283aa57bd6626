//! The meaning of a cgroup's path: its systemd unit and its container.

/// The suffixes of systemd's units with cgroups, except slices.
const UNITS: [&str; 5] = [".service", ".scope", ".mount", ".swap", ".socket"];

/// The systemd unit of a cgroup: the last part of the path that is a unit and no slice.
///
/// A `\x2d` stays, because it is part of systemd's own name of the unit. systemd puts an underscore before a name that
/// the kernel would take for its own file, as in `_memory.service`; that underscore is removed.
pub fn unit_name(path: &str) -> Option<String> {
    let mut units = path.rsplit('/').filter(|part| UNITS.iter().any(|kind| part.ends_with(kind)));
    let last = units.next()?;
    // A user's manager has an `init.scope` below its own unit, which is not that of process 1.
    let unit = if last == "init.scope" { units.next().unwrap_or(last) } else { last };
    Some(unit.strip_prefix('_').unwrap_or(unit).to_owned())
}

/// The unit that a cgroup belongs to, if it is one of the host's own systemd. Below the unit of a user's manager or of a
/// container, another systemd may have units of its own, whose names mean nothing to the host's.
pub fn own_unit_name(path: &str) -> Option<String> {
    let units = path.split('/').filter(|part| UNITS.iter().any(|kind| part.ends_with(kind))).count();
    unit_name(path).filter(|_| units == 1)
}

/// The container that a cgroup belongs to, the innermost where they are nested: its 64 hexadecimal digits, as Docker,
/// containerd, CRI-O, Podman and Kubernetes name its group; the name of an LXC container or of a container that is
/// registered with systemd-machined, such as one of systemd-nspawn.
///
/// The processes that supervise a container from outside (conmon, `lxc.monitor`) are not in it.
pub fn container_id(path: &str) -> Option<String> {
    let mut parts = path.rsplit('/').peekable();
    while let Some(part) = parts.next() {
        let named = || lxc_name(part, parts.peek().copied()).or_else(|| machine_name(part));
        if let Some(id) = hexadecimal_id(part).or_else(named) {
            return Some(id);
        }
    }
    None
}

/// Whether this is a container's id and not a name.
pub fn is_hexadecimal_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, `ID`; containerd's own driver: `SLICE:cri:ID`.
fn hexadecimal_id(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next().filter(|id| is_hexadecimal_id(id))?;
    // `libpod-conmon-ID.scope`, `crio-conmon-ID.scope`
    let monitor = part.strip_suffix(id).is_some_and(|before| before.ends_with("conmon-"));
    (!monitor).then(|| id.to_owned())
}

/// `lxc.payload.NAME` since LXC 4, `lxc.payload/NAME` in LXC 3.1 and on, `lxc/NAME` before.
fn lxc_name(part: &str, above: Option<&str>) -> Option<String> {
    let name = match (part.strip_prefix("lxc.payload."), above) {
        (Some(name), _) => name,
        (None, Some("lxc" | "lxc.payload")) => part,
        (None, _) => return None,
    };
    (!name.is_empty()).then(|| name.to_owned())
}

/// `machine-NAME.scope`, and `systemd-nspawn@NAME.service`. Virtual machines are registered in the same way, and are no
/// containers.
fn machine_name(part: &str) -> Option<String> {
    let scope = part.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope"));
    let service = || part.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service"));
    let name = unescaped(scope.or_else(service)?)?;
    (!name.is_empty() && !name.starts_with("qemu-")).then_some(name)
}

/// A name without systemd's escapes, `\xHH` for a byte; None with another escape.
fn unescaped(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'\\' {
            let digits = after.get(1..3).filter(|_| after.first() == Some(&b'x'))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after.get(3..)?;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OUTER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    #[test]
    fn a_path_names_the_unit() {
        for (path, unit) in [
            ("/system.slice/redis.service", "redis.service"),
            // A template's instances have a slice of their own.
            (
                "/system.slice/system-postgresql.slice/postgresql@15-main.service",
                "postgresql@15-main.service",
            ),
            ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
            (r"/system.slice/my\x2dapp.service/worker", r"my\x2dapp.service"),
            (r"/system.slice/system-a\x2db.slice/a\x2db@c\x2dd-e.service", r"a\x2db@c\x2dd-e.service"),
            ("/a.slice/a-b.slice/a-b-c.slice/deep.service", "deep.service"),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "x.service"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-foo@autogen.service",
                "app-foo@autogen.service",
            ),
            (
                r"/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope",
                "vte-spawn-1.scope",
            ),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service"),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
            ("/init.scope", "init.scope"),
            ("/system.slice/_memory.service", "memory.service"),
            ("/system.slice/dev-hugepages.mount", "dev-hugepages.mount"),
            ("/system.slice/docker.socket", "docker.socket"),
            // The form in a cgroup namespace.
            ("/../../system.slice/redis.service", "redis.service"),
        ] {
            assert_eq!(unit_name(path).as_deref(), Some(unit), "{path}");
        }
        for path in ["/", "", "/docker/abc", "/system.slice", "/user.slice/user-1000.slice"] {
            assert_eq!(unit_name(path), None, "{path}");
        }
    }

    #[test]
    fn the_units_of_a_users_systemd_or_a_containers_are_not_the_hosts() {
        for (path, own) in [
            ("/system.slice/redis.service", Some("redis.service")),
            ("/system.slice/redis.service/worker", Some("redis.service")),
            ("/lab/payload/system.slice/redis.service", Some("redis.service")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/redis.service", None),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", None),
            ("/machine.slice/systemd-nspawn@web.service/payload/system.slice/redis.service", None),
            ("/machine.slice/machine-web.scope/payload/system.slice/redis.service", None),
        ] {
            assert_eq!(own_unit_name(path).as_deref(), own, "{path}");
        }
    }

    #[test]
    fn a_path_names_the_container() {
        for path in [
            // Docker: systemd and cgroupfs as its driver, and systemd inside the container.
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/docker/{ID}/system.slice/nginx.service"),
            // Kubernetes: containerd and CRI-O, both drivers, all classes; kind's nodes are containers themselves.
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope/container"),
            format!("/kubepods/besteffort/pod1-2/{ID}"),
            format!("/kubepods/pod1/crio-{ID}"),
            format!("/docker/{OUTER}/kubelet/kubepods/burstable/pod1/{ID}"),
            format!(
                "/system.slice/docker-{OUTER}.scope/kubelet.slice/kubelet-kubepods.slice/cri-containerd-{ID}.scope"
            ),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
            // containerd alone: nerdctl.
            format!("/default/{ID}"),
            format!("/system.slice/nerdctl-{ID}.scope"),
            // Podman: as root, rootless, split, with cgroupfs as its driver.
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"),
            format!("/system.slice/web.service/libpod-payload-{ID}"),
            format!("/libpod_parent/libpod-{ID}"),
            // The form in a cgroup namespace.
            format!("/../docker-{ID}.scope"),
            format!("/../../{ID}"),
            format!("/lxc/{ID}/init"),
        ] {
            assert_eq!(container_id(&path).as_deref(), Some(ID), "{path}");
        }
        for (path, name) in [
            ("/lxc/web", "web"),
            ("/lxc/web/system.slice/nginx.service", "web"),
            ("/lxc/outer/lxc/inner", "inner"),
            ("/lxc.payload/web", "web"),
            ("/lxc.payload.web-1/init.scope", "web-1"),
            ("/../lxc.payload.web", "web"),
            ("/machine.slice/machine-web.scope/payload", "web"),
            (r"/machine.slice/machine-web\x2d1.scope", "web-1"),
            (r"/machine.slice/systemd-nspawn@web\x2d1.service/payload/init.scope", "web-1"),
            (r"/machine.slice/machine-lxc\x2d1\x2dweb.scope", "lxc-1-web"),
        ] {
            assert_eq!(container_id(path).as_deref(), Some(name), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_has_no_id() {
        for path in [
            format!("/system.slice/{}.service", &ID[1..]),
            format!("/x/{}", ID.to_uppercase()),
            format!("/system.slice/{ID}.service"),
            // The supervisors of a container.
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/kubepods.slice/crio-conmon-{ID}.scope"),
            "/lxc.monitor.web".to_owned(),
            "/lxc.monitor/web".to_owned(),
            "/lxc".to_owned(),
            "/lxc.payload".to_owned(),
            "/system.slice/containerd.service".to_owned(),
            "/machine.slice".to_owned(),
            r"/machine.slice/machine-qemu\x2d1\x2dvm.scope".to_owned(),
            r"/machine.slice/machine-bad\x2.scope".to_owned(),
            "/system.slice/redis.service".to_owned(),
            "/".to_owned(),
            String::new(),
        ] {
            assert_eq!(container_id(&path), None, "{path}");
        }
    }
}
