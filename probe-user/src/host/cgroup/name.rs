//! What a cgroup's path says: which systemd unit and which container it belongs to.

/// The systemd unit that a cgroup belongs to: the last `*.service` or `*.scope` of its path.
///
/// A `\x2d` in it stays: it is part of the name that systemd itself goes by. Only the underscore goes that
/// systemd puts before a name that the kernel would take for a file of its own, as in `_memory.service`.
pub fn unit_name(path: &str) -> Option<String> {
    let unit = path.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
    Some(unit.strip_prefix('_').unwrap_or(unit).to_owned())
}

/// The container that a cgroup belongs to: 64 hexadecimal digits, as Docker, containerd, CRI-O, Podman and
/// Kubernetes name its group; the innermost where they are nested.
pub fn container_id(path: &str) -> Option<String> {
    path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        // `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`; containerd's own driver: `SLICE:cri:ID`.
        let id = part.rsplit(['-', ':']).next()?;
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (id.len() == 64 && id.bytes().all(hexadecimal)).then(|| id.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_path_names_the_unit() {
        let unit = |path| unit_name(path).unwrap_or_default();
        assert_eq!(unit("/system.slice/redis.service"), "redis.service");
        assert_eq!(
            unit("/system.slice/system-postgresql.slice/postgresql@15-main.service"),
            "postgresql@15-main.service"
        );
        assert_eq!(unit("/system.slice/my\\x2dapp.service/worker"), "my\\x2dapp.service");
        assert_eq!(unit("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service"), "x.service");
        assert_eq!(unit("/user.slice/user-1000.slice/session-3.scope"), "session-3.scope");
        assert_eq!(unit("/system.slice/_memory.service"), "memory.service");
        assert_eq!(unit("/docker/abc"), "");
    }

    #[test]
    fn a_path_names_the_container() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/pod1/crio-{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
            format!("/lxc/{ID}/init"),
        ] {
            assert_eq!(container_id(&path).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(container_id(&format!("/system.slice/{}.service", &ID[1..])), None);
        assert_eq!(container_id(&format!("/x/{}", ID.to_uppercase())), None);
    }
}
