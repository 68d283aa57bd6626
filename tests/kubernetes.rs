//! The manifest for Kubernetes: its form, its rights, and the configuration in it.
//!
//! No cluster is asked. The keys are held against the models of Kubernetes' own API description.

use hostprobe::config::Config;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

const MANIFEST: &str = include_str!("../docs/examples/kubernetes/daemonset.yaml");

/// Each model of the API that the manifest uses, with its keys and their types.
const MODELS: &str = include_str!("src/kubernetes/models.json");

fn objects() -> Vec<Yaml> {
    YamlLoader::load_from_str(MANIFEST).expect("it is YAML")
}

fn object(kind: &str) -> Yaml {
    let is_it = |object: &Yaml| object["kind"].as_str() == Some(kind);
    objects().into_iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind}"))
}

/// What a type in brackets holds, such as `List[V1Container]`.
fn inside<'t>(type_name: &'t str, kind: &str) -> Option<&'t str> {
    type_name.strip_prefix(kind)?.strip_prefix('[')?.strip_suffix(']')
}

/// Holds a value against a type of the API; what is wrong, with its place.
fn wrong(value: &Yaml, type_name: &str, place: &str, models: &Value, found: &mut Vec<String>) {
    if let Some(item) = inside(type_name, "List") {
        match value.as_vec() {
            Some(items) => items.iter().for_each(|it| wrong(it, item, &format!("{place}[]"), models, found)),
            None => found.push(format!("{place}: expected a list")),
        }
        return;
    }
    if let Some(item) = inside(type_name, "Dict").and_then(|pair| pair.split_once(", ")) {
        match value.as_hash() {
            Some(map) => {
                map.iter()
                    .for_each(|(key, it)| wrong(it, item.1, &format!("{place}.{key:?}"), models, found));
            }
            None => found.push(format!("{place}: expected a map")),
        }
        return;
    }
    let fits = match type_name {
        "str" => value.as_str().is_some(),
        "bool" => value.as_bool().is_some(),
        "int" => value.as_i64().is_some(),
        _ => true,
    };
    if !fits {
        found.push(format!("{place}: expected {type_name}, found {value:?}"));
    }
    let Some(map) = value.as_hash() else { return };
    let Some(keys) = models.get(type_name).and_then(Value::as_object) else {
        return found.push(format!("{place}: the model {type_name} is unknown"));
    };
    for (key, it) in map {
        let key = key.as_str().unwrap_or_default();
        match keys.get(key).and_then(Value::as_str) {
            Some(type_name) => wrong(it, type_name, &format!("{place}.{key}"), models, found),
            None => found.push(format!("{place}.{key}: {type_name} has no such key")),
        }
    }
}

#[test]
fn each_key_of_the_manifest_is_one_of_the_api_and_has_its_type() {
    let models: Value = serde_json::from_str(MODELS).expect("it is JSON");
    let mut found = Vec::new();
    for object in objects() {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        wrong(&object, &format!("V1{kind}"), &kind, &models["models"], &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
    // The check sees what is wrong.
    let wrong_keys =
        "spec:\n  template:\n    spec:\n      hostPid: true\n      hostNetwork: 1\n      containers: {}\n";
    let planted = YamlLoader::load_from_str(wrong_keys).expect("it is YAML");
    wrong(&planted[0], "V1DaemonSet", "DaemonSet", &models["models"], &mut found);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn the_pod_has_no_more_rights_than_it_needs() {
    let pod = object("DaemonSet")["spec"]["template"]["spec"].clone();
    assert_eq!(pod["automountServiceAccountToken"].as_bool(), Some(false));
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["privileged"].as_bool(), Some(false));
    assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(security["capabilities"]["drop"][0].as_str(), Some("ALL"));
    let added: Vec<&str> =
        security["capabilities"]["add"].as_vec().expect("a list").iter().filter_map(Yaml::as_str).collect();
    assert_eq!(added, ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYSLOG"]);
    let arguments: Vec<&str> =
        container["args"].as_vec().expect("a list").iter().filter_map(Yaml::as_str).collect();
    assert!(arguments.contains(&"--observe"), "it restarts nothing: {arguments:?}");
    // Each mount has its volume, and what it need not write it cannot.
    let volumes = pod["volumes"].as_vec().expect("a list");
    for mount in container["volumeMounts"].as_vec().expect("a list") {
        let name = mount["name"].as_str().expect("a name");
        assert!(volumes.iter().any(|volume| volume["name"].as_str() == Some(name)), "{name}");
        let writable = ["state", "run"].contains(&name);
        assert_eq!(mount["readOnly"].as_bool(), (!writable).then_some(true), "{name}");
    }
    // No socket of a container runtime: who has it is root on the node.
    assert!(!MANIFEST.contains(".sock\n            type: Socket"), "no runtime's socket is mounted");
    for object in objects() {
        let kind = object["kind"].as_str().expect("a kind");
        assert!(!kind.contains("Role"), "it asks the API for nothing: {kind}");
    }
}

#[test]
fn the_configuration_in_the_manifest_is_valid() {
    let text = object("ConfigMap")["data"]["hostprobe.toml"].as_str().expect("a text").to_owned();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("hostprobe.toml");
    std::fs::write(&file, text).expect("it is written");
    let config = Config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings, [""; 0]);
    assert!(config.services.iter().all(|service| !service.restart.enabled));
}
