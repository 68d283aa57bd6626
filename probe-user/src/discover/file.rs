//! A whole configuration file around the found services.

use std::collections::BTreeSet;

use super::{found::Discovered, toml::to_toml};

/// Where events go, and what an operator adds first.
const HEAD: &str = r#"# The configuration of hostprobe, written by `hostprobe discover --write`. `hostprobe check` says whether it is valid.

[events]
output = "/var/log/hostprobe/events.ndjson"

# Who learns of incidents. `hostprobe alert test` sends a message to each.
# [[alert]]
# slack = "https://hooks.slack.com/services/…"
# [[alert]]
# email = "smtp://127.0.0.1:25"
# from = "hostprobe@example.org"
# to = ["oncall@example.org"]
# [[alert]]
# webhook = "http://127.0.0.1:9093/api/v2/alerts"
# format = "alertmanager"

# A group whose members may use `hostprobe status`, `stop`, `restart` and so on.
# [control]
# group = "operators"

"#;

/// Units that belong to the system itself: systemd restarts them, and little else depends on a probe of theirs.
const OF_THE_SYSTEM: [&str; 5] = ["dbus", "getty", "polkit", "systemd", "user"];

/// The text of the file.
pub fn to_file(found: &Discovered) -> String {
    let mut text = format!("{HEAD}{}", to_toml(&found.services));
    let listening: BTreeSet<&str> = found.services.iter().filter_map(|found| found.unit.as_deref()).collect();
    let others: Vec<&str> = found
        .units
        .iter()
        .map(String::as_str)
        .filter(|unit| !listening.contains(unit) && !is_of_the_system(unit))
        // A name of systemd's has no other characters; a comment is to stay one.
        .filter(|unit| unit.chars().all(|char| char.is_ascii_alphanumeric() || "@.-_:\\".contains(char)))
        .collect();
    if !others.is_empty() {
        text.push_str(
            "\n# systemd runs these as well, and they listen on no TCP port. Add those that matter:\n",
        );
        text.push_str("# [[service]]\n# name = \"…\"\n# unit = \"…\"\n#\n");
        others.iter().for_each(|unit| text.push_str(&format!("#   {unit}\n")));
    }
    text
}

fn is_of_the_system(unit: &str) -> bool {
    OF_THE_SYSTEM.iter().any(|name| {
        let rest = unit.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['-', '@', '.']))
    })
}
