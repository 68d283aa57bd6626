//! Kubernetes on this node: which pod a container belongs to, without its API.
//!
//! The kubelet names the folders of logs `/var/log/pods/NAMESPACE_POD_UID/CONTAINER`, and links
//! `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log` to their files. The path of a cgroup has the uid of the pod. No name
//! has an underscore: namespaces, pods and containers have names of DNS.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::cgroup::{container_id, is_hexadecimal_id};

/// A node has a few hundred pods at most, each with a few containers, and keeps some that have ended.
const ENTRIES_MAX: usize = 16_384;

/// The longest name of a pod (`DNS1123SubdomainMaxLength`).
const NAME_MAX: usize = 253;

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// The uid of the pod; empty if only its container is known.
    pub uid: String,
    /// None while the kubelet's folders were not read since the pod was made.
    pub name: Option<PodName>,
}

/// The names that the kubelet gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    pub namespace: String,
    pub pod: String,
    /// None where only the pod is known.
    pub container: Option<String>,
}

/// What is known of the pods of this node; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pods(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By the id of the container.
    containers: HashMap<String, PodName>,
    /// By the uid of the pod.
    pods: HashMap<String, PodName>,
}

impl Pods {
    /// Reads the kubelet's folders below this root. It may block.
    pub fn refresh(&self, root: &Path) {
        let containers = entries(&root.join("var/log/containers")).filter_map(|entry| container(&entry));
        let folders = root.join("var/log/pods");
        let pods = entries(&folders).filter_map(|entry| pod(&folders, &entry));
        let known = Known { containers: containers.collect(), pods: pods.collect() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// The pod of a process in this cgroup; None if it is in none.
    pub fn of(&self, cgroup: &str) -> Option<Pod> {
        let uid = pod_uid(cgroup)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_container = container_id(cgroup).and_then(|id| known.containers.get(&id));
        let name = of_container.or_else(|| known.pods.get(&uid)).cloned();
        Some(Pod { uid, name })
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(ENTRIES_MAX);
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// `POD_NAMESPACE_CONTAINER-ID.log`
fn container(entry: &str) -> Option<(String, PodName)> {
    let (names, id) = entry.strip_suffix(".log")?.rsplit_once('-')?;
    let [pod, namespace, container] = three(names)?;
    let name = PodName {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: Some(container.to_owned()),
    };
    is_hexadecimal_id(id).then(|| (id.to_owned(), name))
}

/// `NAMESPACE_POD_UID`, a folder with one for each container.
fn pod(folders: &Path, entry: &str) -> Option<(String, PodName)> {
    let [namespace, pod, uid] = three(entry)?;
    let folder: PathBuf = folders.join(entry);
    let mut containers = entries(&folder);
    // With several, it is not known which.
    let container = containers.next().filter(|_| containers.next().is_none());
    let container = container.filter(|name| is_name(name));
    let name = PodName { namespace: namespace.to_owned(), pod: pod.to_owned(), container };
    is_uid(uid).then(|| (uid.to_owned(), name))
}

fn three(names: &str) -> Option<[&str; 3]> {
    let mut parts = names.split('_');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    // A uid is no name of DNS, and has the same characters.
    (parts.next().is_none() && three.iter().all(|part| is_name(part))).then_some(three)
}

fn is_name(name: &str) -> bool {
    let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(named)
}

/// With hyphens, or the 32 digits of a static pod's.
fn is_uid(uid: &str) -> bool {
    let digits = uid.bytes().filter(|byte| *byte != b'-');
    digits.clone().count() == 32 && digits.into_iter().all(|byte| byte.is_ascii_hexdigit())
}

/// The uid of the pod that a cgroup belongs to: `pod` and the uid in its name (cgroupfs), or `-pod`, the uid with
/// underscores and `.slice` (systemd).
fn pod_uid(path: &str) -> Option<String> {
    if !path.contains("kubepods") {
        return None;
    }
    path.rsplit('/').find_map(|part| {
        // containerd without systemd's help writes SLICE:cri-containerd:ID.
        let part = part.split(':').next().unwrap_or(part);
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid = match part.rsplit_once("-pod") {
            Some((before, uid)) if before.contains("kubepods") => uid,
            Some(_) | None => part.strip_prefix("pod")?,
        };
        let uid = uid.replace('_', "-");
        is_uid(&uid).then_some(uid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const UID: &str = "4f1d2c3b-0000-4111-8222-333344445555";
    const STATIC: &str = "0123456789abcdef0123456789abcdef";

    /// A fake node: the folders of a kubelet, and no kubelet.
    fn fake_node() -> (tempfile::TempDir, Pods) {
        let root = tempfile::tempdir().unwrap();
        let make = |path: String| fs::create_dir_all(root.path().join(path)).unwrap();
        make(format!("var/log/pods/shop_api-7d9f-x2x_{UID}/api"));
        make(format!("var/log/pods/shop_api-7d9f-x2x_{UID}/sidecar"));
        make(format!("var/log/pods/kube-system_etcd-node1_{STATIC}/etcd"));
        make("var/log/pods/not a pod/x".to_owned());
        make("var/log/containers".to_owned());
        let log = |name: String| fs::write(root.path().join("var/log/containers").join(name), "").unwrap();
        log(format!("api-7d9f-x2x_shop_api-{ID}.log"));
        log("api_shop_api-short.log".to_owned());
        log(format!("UPPER_shop_api-{OTHER}.log"));
        log("notes.txt".to_owned());
        let pods = Pods::default();
        pods.refresh(root.path());
        (root, pods)
    }

    #[test]
    fn pods_are_known_by_the_cgroups_of_both_drivers_and_of_all_runtimes() {
        let (_root, pods) = fake_node();
        let escaped = UID.replace('-', "_");
        let name = PodName {
            namespace: "shop".to_owned(),
            pod: "api-7d9f-x2x".to_owned(),
            container: Some("api".to_owned()),
        };
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{escaped}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{escaped}.slice/crio-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod{escaped}.slice/crio-{ID}.scope/container"),
            format!("/kubepods/besteffort/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}/crio-{ID}"),
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{escaped}.slice:cri-containerd:{ID}"
            ),
            format!("/docker/{OTHER}/kubelet/kubepods/burstable/pod{UID}/{ID}"),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{escaped}.slice/cri-containerd-{ID}.scope"
            ),
        ] {
            assert_eq!(pods.of(&path), Some(Pod { uid: UID.to_owned(), name: Some(name.clone()) }), "{path}");
        }
    }

    #[test]
    fn a_container_that_is_not_linked_yet_is_known_by_its_pod_if_that_has_one() {
        let (_root, pods) = fake_node();
        let of = |uid: &str| pods.of(&format!("/kubepods/pod{uid}/{OTHER}")).unwrap();
        let several = of(UID).name.unwrap();
        assert_eq!((several.pod.as_str(), several.container), ("api-7d9f-x2x", None));
        let one = of(STATIC).name.unwrap();
        assert_eq!((one.namespace.as_str(), one.container.as_deref()), ("kube-system", Some("etcd")));
        let new = of("aaaaaaaa-0000-4111-8222-333344445555");
        assert_eq!((new.uid.as_str(), new.name), ("aaaaaaaa-0000-4111-8222-333344445555", None));
    }

    #[test]
    fn what_is_in_no_pod_has_none() {
        let (_root, pods) = fake_node();
        for path in [
            format!("/docker/{ID}"),
            "/system.slice/kubelet.service".to_owned(),
            format!("/kubepods/burstable/{ID}"),
            format!("/kubepods/podnonsense/{ID}"),
            "/kubepods.slice".to_owned(),
            String::new(),
        ] {
            assert_eq!(pods.of(&path), None, "{path}");
        }
        let empty = Pods::default();
        empty.refresh(Path::new("/nonexistent"));
        assert_eq!(empty.of(&format!("/kubepods/pod{UID}/{ID}")).unwrap().name, None);
    }
}
