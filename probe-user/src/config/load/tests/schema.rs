//! The JSON Schema accepts what this module accepts, and has its keys.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use super::{docs, *};
use crate::config::schema;

static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft202012::new(&SCHEMA).expect("a JSON Schema"));

/// What the schema says of a text; empty if it accepts it.
pub(super) fn complaints(text: &str) -> Vec<String> {
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![error.to_string()],
    };
    let value = serde_json::to_value(table).unwrap();
    VALIDATOR.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The schema itself, or what it refers to.
fn resolved(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str() {
        Some(path) => SCHEMA.pointer(path.trim_start_matches('#')).expect(path),
        None => schema,
    }
}

/// Each key in the schema: the header of its table, its name, and its own schema.
fn keys() -> Vec<(String, String, &'static Value)> {
    let (mut keys, mut open) = (Vec::new(), vec![(String::new(), false, &*SCHEMA)]);
    while let Some((path, is_list, table)) = open.pop() {
        let Some(properties) = table["properties"].as_object() else { continue };
        let header = if is_list { format!("[[{path}]]") } else { format!("[{path}]") };
        for (key, schema) in properties {
            keys.push((header.clone(), key.clone(), schema));
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            open.push((below.clone(), false, resolved(schema)));
            open.push((below, true, resolved(&schema["items"])));
        }
    }
    keys
}

#[test]
fn it_is_a_schema_of_2020_12_and_refuses_unknown_keys_everywhere() {
    assert_eq!(SCHEMA["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::draft202012::meta::validate(&SCHEMA).expect("a JSON Schema");
    let tables = SCHEMA["$defs"].as_object().unwrap().values().chain([&*SCHEMA]);
    for table in tables {
        assert_eq!(table["additionalProperties"], false, "{table}");
    }
}

#[test]
fn it_has_the_keys_that_the_daemon_reads() {
    let mut known: Vec<(String, String)> = keys().into_iter().map(|(table, key, _)| (table, key)).collect();
    known.sort();
    let read = docs::tables()
        .into_iter()
        .flat_map(|(table, keys)| keys.into_iter().map(move |key| (table.clone(), key)));
    let mut read: Vec<(String, String)> = read.collect();
    read.sort();
    assert_eq!(known, read);
}

#[test]
fn each_key_has_a_description_with_its_default() {
    let text =
        |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), |text| format!("{text:?}"));
    let defaults: toml::Table = docs::defaults().parse().unwrap();
    let mut compared = 0;
    for (table, key, schema) in keys() {
        let description = schema["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.') && description.len() > 8, "{table} {key}: {description:?}");
        let path = table.trim_matches(['[', ']']);
        let mut at = Some(toml::Value::Table(defaults.clone()));
        for name in path.split('.').filter(|name| !name.is_empty()).chain([key.as_str()]) {
            at = at.and_then(|value| match value.as_array() {
                Some(list) => list.first().cloned(),
                None => Some(value),
            });
            at = at.and_then(|value| value.get(name).cloned());
        }
        // What a service always has of its own, and empty lists and tables, are no defaults to name.
        let own = ["name", "exec", "http"].contains(&key.as_str()) && table.starts_with("[[service");
        let Some(default) = at.filter(|it| !it.is_table() && !it.is_array() && !own) else { continue };
        let default = text(&default).replace("/web.log", "/NAME.log");
        assert!(
            description.contains(&default) && description.contains("if not given"),
            "{table} {key}: {default}: {description}"
        );
        compared += 1;
    }
    assert!(compared >= 27, "{compared}");
}

#[test]
fn its_ranges_are_those_of_the_daemon() {
    let service = |lines: &str| format!("[[service]]\nname = \"a\"\n{lines}");
    let mut compared = Vec::new();
    for (table, key, schema) in keys() {
        let schema = if schema["items"].is_object() { &schema["items"] } else { schema };
        let bound = |name: &str| schema[name].as_i64();
        let Some(most) = bound("maximum") else { continue };
        let text = |value: i64| match table.as_str() {
            "[[service]]" => service(&format!("exec = [\"/a\"]\noutput_max = \"1MiB\"\n{key} = {value}")),
            "[[service.probe]]" if key == "memory_percent" => {
                service(&format!("[[service.probe]]\nredis = \"redis://h\"\n{key} = {value}"))
            }
            "[[service.probe]]" => {
                service(&format!("[[service.probe]]\npostgres = \"postgres://u@h/d\"\n{key} = {value}"))
            }
            "[service.probe.expect]" => {
                service(&format!("[[service.probe]]\nhttp = \"http://h\"\nexpect = {{ {key} = [{value}] }}"))
            }
            "[[service.match]]" | "[service.match]" => service(&format!("match = {{ {key} = {value} }}")),
            "[service.limits]" => {
                service(&format!("unit = \"a.service\"\n[service.limits]\n{key} = {value}"))
            }
            "[defaults.probe]" => {
                format!("[defaults.probe]\n{key} = {value}\n{}", service("[[service.probe]]\ntcp = \"h:1\""))
            }
            "[defaults.limits]" => {
                format!("[defaults.limits]\n{key} = {value}\n{}", service("unit = \"a.service\""))
            }
            "[fleet]" => format!("[fleet]\nnats = \"tls://h\"\n{key} = {value}"),
            _ => format!("{table}\n{key} = {value}"),
        };
        let least = bound("minimum").unwrap_or_else(|| bound("exclusiveMinimum").expect("a minimum") + 1);
        for (value, is_right) in [(least, true), (most, true), (least - 1, false), (most + 1, false)] {
            let text = text(value);
            assert_eq!(parse(&text).is_ok(), is_right, "{text}");
            assert_eq!(complaints(&text).is_empty(), is_right, "{text}");
        }
        compared.push(key);
    }
    assert!(compared.len() >= 14, "{compared:?}");
}

/// Texts that the daemon and the schema refuse.
#[test]
fn what_an_editor_marks_the_daemon_refuses() {
    const SERVICE: &str = "[[service]]\nname = \"a\"\n";
    let unit = |lines: &str| format!("{SERVICE}unit = \"a.service\"\n{lines}");
    let exec = |lines: &str| format!("{SERVICE}exec = [\"/bin/a\"]\n{lines}");
    let probe = |lines: &str| format!("{SERVICE}[[service.probe]]\n{lines}");
    let http = |lines: &str| probe(&format!("http = \"http://h\"\n{lines}"));
    let table = [
        // A wrong type.
        "http = 5".to_owned(),
        "[http]\nlisten = 9464".to_owned(),
        "[service]\nname = \"a\"".to_owned(),
        unit("critical = \"yes\""),
        unit("depends_on = \"b\""),
        unit("limits = [1]"),
        exec("output_stamp = 1"),
        exec("environment = { A = 1 }"),
        exec("rlimits = { nofile = true }"),
        http("failures = 1.5"),
        http("interval = 10"),
        http("expect = { status = 200 }"),
        http("expect = { status = [\"200\"] }"),
        format!("{SERVICE}exec = \"/bin/a\""),
        format!("{SERVICE}match = \"/bin/a\""),
        "[[service]]\nname = 5\nunit = \"a.service\"".to_owned(),
        // A key that does not exist, or is misspelled, or stands in the wrong table.
        "[htpp]\nlisten = \"\"".to_owned(),
        "[http]\nlisten_on = \"\"".to_owned(),
        "[supervisor]\non_end = \"stop\"".to_owned(),
        unit("restrat = {}"),
        unit("interval = \"5s\""),
        unit("[service.restart]\nenable = true"),
        unit("[service.limits]\nthread = 5"),
        unit("[service.policy]\nslow = \"alert\""),
        http("intervall = \"5s\""),
        http("expect = { body = \"ok\" }"),
        http("send = \"x\""),
        probe("udp = \"h:1\""),
        probe("tcp = \"h:1\"\nsend = 'a\\e'"),
        probe("tcp = \"h:1\"\nexpect = { contains = 'a\\x1' }"),
        probe("tcp = \"h:1\"\nexpect = \"a\""),
        probe("exec = [\"true\"]"),
        probe("exec = []"),
        probe("heartbeat = \"a\""),
        probe("heartbeat = \"a b\"\nevery = \"1h\""),
        http("every = \"1h\""),
        http("user = \"nobody\""),
        "[defaults.restart]\ncommand = [\"/bin/true\"]".to_owned(),
        "[defaults.policy]\nworker_died = \"ignore\"".to_owned(),
        // A number out of its range.
        http("failures = 0"),
        http("expect = { status = [20] }"),
        format!("{SERVICE}match = {{ port = 65536 }}"),
        unit("[service.limits]\nmemory_percent = 101"),
        unit("[service.limits]\ncpu_percent = 0"),
        "[snapshots]\nkeep = 0".to_owned(),
        "[snapshots]\nstacks = \"no\"".to_owned(),
        // A word that is none of the few.
        unit("[service.policy]\nworker_died = \"reboot\""),
        unit("[service.restart]\non_clean_exit = \"Always\""),
        "[[alert]]\nwebhook = \"http://h\"\nformat = \"slack\"".to_owned(),
        "[[alert]]\nwebhook = \"http://h\"\nmin_severity = \"error\"".to_owned(),
        "[supervisor]\non_exit = \"kill\"".to_owned(),
        exec("stop_signal = \"SIGSTOP\""),
        exec("stop_signal = \"15\""),
        exec("rlimits = { nofiles = 5 }"),
        // Another notation.
        http("interval = \"10 sec\""),
        http("timeout = \"-1s\""),
        http("slow = \"1.5s\""),
        exec("stop_timeout = \"10\""),
        exec("output_max = \"100MB\""),
        exec("umask = \"8\""),
        exec("umask = \"1022\""),
        exec("rlimits = { nofile = -1 }"),
        exec("rlimits = { nofile = \"1:2:3\" }"),
        unit("[service.restart]\nbudget = \"5/10m\""),
        unit("[service.restart]\nbudget = \"0 per 10m\""),
        unit("[service.restart]\nbackoff = \"1s-5m\""),
        unit("[service.restart]\ngrace = \"30\""),
        unit("maintenance = [\"Sunday 02:00-04:00\"]"),
        unit("maintenance = [\"Sun 2:00-4:00\"]"),
        "[kernel]\nbulk_ring = \"1MB\"".to_owned(),
        "[[alert]]\nwebhook = \"http://h/${no name}\"".to_owned(),
        // A name or a path of another form.
        "[[service]]\nname = \"a b\"\nunit = \"a.service\"".to_owned(),
        format!("{SERVICE}unit = \"nginx\""),
        format!("{SERVICE}exec = [\"a\"]"),
        format!("{SERVICE}exec = []"),
        exec("output = \"a.log\""),
        "[events]\noutput = \"tcp:h\"".to_owned(),
        "[events]\noutput = [\"-\", \"e\"]".to_owned(),
        "[state]\ndirectory = \"state\"".to_owned(),
        "[control]\nsocket = \"run.sock\"".to_owned(),
        // What is missing, or does not go together.
        "[[service]]\nunit = \"a.service\"".to_owned(),
        SERVICE.to_owned(),
        "[[alert]]\nformat = \"json\"".to_owned(),
        "[[alert]]\nslack = \"https://h/x\"\nteams = \"https://h/y\"".to_owned(),
        "[[alert]]\nslack = \"https://h/x\"\nchat = \"1\"".to_owned(),
        "[[alert]]\ntelegram = \"https://h\"\ntoken = \"x\"".to_owned(),
        "[[alert]]\nemail = \"smtp://h\"\nfrom = \"a@b.example\"".to_owned(),
        "[[alert]]\nname = \"on call\"\nwebhook = \"http://h\"".to_owned(),
        "[[alert]]\nwebhook = \"http://h\"\nafter = \"soon\"".to_owned(),
        "[[alert]]\nwebhook = \"https://h\"\ntls = { cert = \"/a\" }".to_owned(),
        "[heartbeat]\ninterval = \"60s\"".to_owned(),
        unit("exec = [\"/bin/a\"]"),
        unit("user = \"www-data\""),
        unit("start_after = []"),
        exec("output_keep = 3"),
        probe("interval = \"5s\""),
        probe("http = \"http://h\"\ntcp = \"h:1\""),
        probe("redis = \"redis://h\"\nexpect = {}"),
        probe("tcp = \"h:1\"\nlogin_required = false"),
        http("memory_percent = 5"),
        probe("redis = \"redis://h\"\nconnections_percent = 5"),
        probe("mysql = \"mysql://u@h\"\nwait = \"5s\""),
        probe("tcp = \"h:1\"\nlag = \"5s\""),
        probe("redis = \"redis://h\"\nrole = \"master\""),
        format!("{SERVICE}match = {{}}"),
        include_str!("../../../../../fuzz/seeds/config/wrong.toml").to_owned(),
    ];
    for text in table {
        assert!(parse(&text).is_err(), "the daemon accepts\n{text}");
        assert!(!complaints(&text).is_empty(), "the schema accepts\n{text}");
    }
}

#[test]
fn other_ways_to_write_a_value_are_accepted_as_by_the_daemon() {
    let texts = [
        "[[service]]\nname = \"a\"\nexec = [\"/a\"]\numask = \"0077\"\nstop_signal = \"USR1\"\nstop_timeout = \"1  m\"",
        "[[service]]\nname = \"a\"\nunit = \"a@b.service\"\n[service.restart]\nbudget = \" 05  per  10m \"\nbackoff = \"1s .. 5 m\"",
        "[[service]]\nname = \"a\"\nunit = \"a.service\"\nmaintenance = [\" Mon,Wed  22:00-01:00 UTC \", \"daily 00:00-24:00\"]",
        "[http]\nlisten = \"\"\n[control]\nsocket = \"\"\n[state]\nrecording = \"\"\n[events]\noutput = \"-\"",
        "[[alert]]\nwebhook = \"https://u:${PASSWORD}@h/$x\"",
        "[[service]]\nname = \"a\"\n[[service.probe]]\nunix = \"@a\"\nsend = '$${PASSWORD}\\\\\\x00\\r\\n$$\\0$'\nexpect = {}",
        "[[service]]\nname = \"a\"\n[[service.probe]]\nudp = \"h:1\"\nsend = \"a\\nb\"\nexpect = { starts_with = '\\xfF' }",
        "[[alert]]\nwebhook = \"https://h/$$${PASSWORD}$$x$\"",
        "[[service]]\nname = \"a\"\nexec = [\"/a\"]\nrlimits = { nofile = \" 5 : unlimited\", as = \"8 GiB\" }",
    ];
    for text in texts {
        parse(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    }
}

#[test]
fn it_accepts_the_examples_of_all_pages_and_tests() {
    let seeds = [
        FULL,
        include_str!("../../../../../fuzz/seeds/config/full.toml"),
        include_str!("../../../../../fuzz/seeds/config/addresses.toml"),
        include_str!("../../../../../fuzz/seeds/replay.toml"),
        docs::COMMENTED,
    ];
    let examples: Vec<String> = seeds.map(str::to_owned).into_iter().chain(docs::of_all_pages()).collect();
    assert!(examples.len() >= 22, "{}", examples.len());
    for text in examples {
        assert_eq!(complaints(&text), [""; 0], "{text}");
    }
}
