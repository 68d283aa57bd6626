//! Containers as services.

use super::*;

#[test]
fn a_container_has_a_name_and_at_most_one_engine() {
    let container = |keys: &str| format!("[[service]]\nname = \"a\"\n{keys}");
    refused(
        &container("container = \"/web\""),
        &[
            "3:13: found \"/web\"; expected the name of a container: letters, digits, dots, hyphens and underscores, and no slash",
        ],
    );
    refused(
        &container("engine = \"podman\"\nunit = \"a.service\""),
        &["3:10: `engine` without a container; expected it beside `container` only"],
    );
    refused(
        &container("container = \"web\"\nengine = \"lxc\""),
        &["4:10: found \"lxc\"; expected \"docker\" or \"podman\""],
    );
    let config = parse(&container("container = \"web\"\n[service.restart]\nenabled = true")).unwrap();
    assert!(config.services[0].restart.enabled && config.services[0].local_ports().is_empty());
}
