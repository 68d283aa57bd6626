//! Several errors of one file: all that can be known without a false one, and few warnings that are alike.

use super::{refused, warned};

/// A service with a probe that has these lines too.
fn service(name: &str, more: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nunit = \"{name}.service\"\n[[service.probe]]\ntcp = \"h:1\"\n{more}\n"
    )
}

const TOO_SHORT: &str = "`interval` is 1ms; expected from 100ms to 24h";

#[test]
fn an_error_of_meaning_is_told_beside_one_of_another_tables_shape() {
    let of_type = service("a", "interval = 5") + &service("b", "interval = \"1ms\"");
    refused(
        &of_type,
        &[
            "6:12: found integer `5`; expected a duration such as \"250ms\", \"10s\", \"5m\" or \"1h\"",
            &format!("12:12: {TOO_SHORT}"),
        ],
    );
    let unknown_key = service("a", "intervall = \"5s\"") + &service("b", "interval = \"1ms\"");
    let lines = super::parse(&unknown_key).unwrap_err().to_string();
    assert!(lines.contains("unknown key `intervall`") && lines.contains(TOO_SHORT), "{lines}");
    let elsewhere = format!("[events]\noutput = 5\n{}", service("b", "interval = \"1ms\""));
    let lines = super::parse(&elsewhere).unwrap_err().to_string();
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

#[test]
fn what_is_only_missing_for_another_error_is_not_told() {
    // Without its unit, the first service would have nothing to watch, and the second one the same name as itself.
    let no_unit = "[[service]]\nname = \"a\"\nunit = 5\n".to_owned() + &service("b", "");
    refused(&no_unit, &["3:8: found integer `5`; expected a string"]);
    // The name that the other one depends on is lost.
    let depends = "[[service]]\nname = \"b\"\nunit = \"b.service\"\ndepends_on = [\"a\"]\n";
    let no_name = format!("[[service]]\nname = 5\nunit = \"a.service\"\n{depends}");
    refused(&no_name, &["2:8: found integer `5`; expected a string"]);
    // The default that would make it right is lost.
    let no_default = format!("[defaults.probe]\ntimeout = 5\n{}", service("a", "slow = \"7s\""));
    assert_eq!(super::parse(&no_default).unwrap_err().iter().count(), 1);
    // Nothing is known of a file that is no TOML.
    let no_toml = service("a", "interval = \"1ms\"") + "[[service]\n";
    assert!(!super::parse(&no_toml).unwrap_err().to_string().contains(TOO_SHORT));
}

#[test]
fn a_list_is_expected_with_an_example() {
    let exec = "[[service]]\nname = \"a\"\nexec = \"/bin/a -x\"";
    refused(exec, &["3:8: found a string; expected a list such as [\"/usr/bin/program\", \"argument\"]"]);
    let hook = "[[hook]]\non = \"incident.open\"\ncommand = \"/bin/a\"";
    refused(
        hook,
        &[
            "2:6: found a string; expected a list such as [\"incident.open\", \"incident.resolve\"]",
            "3:11: found a string; expected a list such as [\"/usr/bin/program\", \"argument\"]",
        ],
    );
    let maintenance = "[[service]]\nname = \"a\"\nunit = \"a.service\"\nmaintenance = \"daily 03:00-04:00\"";
    refused(
        maintenance,
        &["4:15: found a string; expected a list such as [\"Sun 02:00-04:00 Europe/Berlin\"]"],
    );
}

#[test]
fn an_escape_and_a_time_zone_are_named_as_they_are_written() {
    let lines = |text: &str| super::parse(text).unwrap_err().to_string();
    let escape = lines(&service("a", "expect = { contains = '\\x4' }"));
    assert!(escape.contains("6:23: found '\\x4'; expected a text in which"), "{escape}");
    let window =
        "[[service]]\nname = \"a\"\nunit = \"a.service\"\nmaintenance = [\"daily 03:00-04:00 Mars\"]";
    let zone = lines(window);
    assert!(zone.contains("4:16: found the unknown time zone \"Mars\"; expected days"), "{zone}");
}

#[test]
fn warnings_that_are_alike_are_three_at_most() {
    let probes = |count: usize| {
        let one = |number| service(&format!("s{number}"), "interval = \"5s\"\ntimeout = \"10s\"");
        (0..count).map(one).collect::<String>()
    };
    let alike = "a probe may take 10s but is due every 5s: while it hangs, the next ones wait";
    let place = |number: usize| format!("{}:11: {alike}", 7 * number + 7);
    assert_eq!(warned(&probes(0)), [""; 0]);
    assert_eq!(warned(&probes(1)), [place(0)]);
    assert_eq!(warned(&probes(3)), [place(0), place(1), place(2)]);
    let last = format!("{}; so it is with 1 further probe", place(2));
    assert_eq!(warned(&probes(4)), [place(0), place(1), last]);
    let last = format!("{}; so it is with 15 further probes", place(2));
    assert_eq!(warned(&probes(18)), [place(0), place(1), last]);
}
