use super::{PACKAGES, findings_in, table::LAYERS};

/// What is found in a made-up `probe-user/src`.
fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    findings_in(&PACKAGES[0], &sources).unwrap()
}

#[test]
fn an_upward_import_names_its_place_and_both_layers() {
    let found = findings(&[
        ("lib.rs", "mod engine; mod host;"),
        ("host.rs", "mod matcher;"),
        ("host/matcher.rs", "use std::fs;\nuse crate::engine::{Engine, Fault as F};\n"),
        ("engine.rs", "pub struct Engine; pub enum Fault {}"),
    ]);
    let number = |folder: &str| 1 + LAYERS.iter().position(|layer| layer.contains(&folder)).expect("a layer");
    let (host, engine) = (number("host"), number("engine"));
    assert_eq!(
        found,
        [format!(
            "probe-user/src/host/matcher.rs:2: host must not import engine (Engine, Fault): host is layer {host}, \
             engine layer {engine}; move what both need down, or this code up"
        )]
    );
}

#[test]
fn a_path_without_an_import_counts_wherever_it_stands() {
    for body in [
        "fn f() -> crate::engine::Engine { todo!() }",
        "fn f() { format!(\"{}\", crate::engine::name()); }",
        "fn f() { if true { use crate::engine; engine::name(); } }",
        "#[serde(with = \"crate::engine::name\")] struct S;",
        "fn f(s: u8) { match s { crate::engine::LIMIT => {} _ => {} } }",
    ] {
        let found = findings(&[
            ("lib.rs", "mod engine; mod host;"),
            ("host.rs", body),
            ("engine.rs", "pub struct Engine; pub fn name() {} pub const LIMIT: u8 = 1;"),
        ]);
        assert!(!found.is_empty(), "{body}");
        assert!(found[0].starts_with("probe-user/src/host.rs:1: host must not import engine ("), "{found:?}");
    }
}

#[test]
fn imports_from_below_and_from_ones_own_folder_are_fine() {
    let found = findings(&[
        ("lib.rs", "mod fact; mod host; pub fn run() { host::read(); }"),
        ("main.rs", "fn main() { hostprobe::run() }"),
        ("fact.rs", "pub struct Fact;"),
        ("host.rs", "mod process; pub fn read() -> crate::fact::Fact { process::read() }"),
        ("host/process.rs", "use crate::fact::Fact; pub fn read() -> Fact { Fact }"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_library_must_not_be_imported_below_itself() {
    let found = findings(&[
        ("lib.rs", "mod host; pub struct Options;"),
        ("host.rs", "fn f(_: &crate::Options) {}"),
        ("main.rs", ""),
    ]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("host must not import lib (Options)"), "{found:?}");
}

#[test]
fn a_folder_without_a_layer_is_named() {
    let found = findings(&[("lib.rs", "mod helpers;"), ("helpers.rs", "")]);
    let expected = "probe-user/src/helpers: has no layer; add it to LAYERS in xtask/src/layers/table.rs";
    assert_eq!(found, [expected]);
}

#[test]
fn two_files_that_use_each_other_are_a_circle() {
    let found = findings(&[
        ("lib.rs", "mod host;"),
        ("host.rs", "mod a; mod b;"),
        ("host/a.rs", "use super::b::{Foo, bar}; pub struct A(Foo); pub fn f() { bar() }"),
        ("host/b.rs", "pub struct Foo; pub fn bar() { super::a::f() }"),
    ]);
    assert_eq!(
        found,
        ["probe-user/src: circle of 2 files; move what they share into a file below them:\n  \
          host/a.rs -> host/b.rs: Foo, bar\n  host/b.rs -> host/a.rs: f"]
    );
}

#[test]
fn a_parent_that_uses_a_child_that_uses_the_parents_type_is_a_circle() {
    let child = ("host/child.rs", "use super::Parent; pub struct Child; fn f(_: Parent) {}");
    for parent in [
        "mod child; use child::Child; pub struct Parent(Child);",
        "mod child; pub use child::Child; pub struct Parent(Child);",
        "mod child; use child::*; pub struct Parent(Child);",
        "mod child; pub struct Parent { child: Option<Box<child::Child>> }",
        "mod child; pub struct Parent; fn f() { assert!(x, \"{}\", child::Child) }",
    ] {
        let found = findings(&[("lib.rs", "mod host;"), ("host.rs", parent), child]);
        assert_eq!(found.len(), 1, "{parent}");
        assert!(found[0].contains("host.rs -> host/child.rs: Child"), "{found:?}");
    }
}

#[test]
fn a_parent_that_only_reexports_is_in_no_circle() {
    let found = findings(&[
        ("lib.rs", "mod host;"),
        ("host.rs", "mod a; mod b; pub use a::A; pub use b::*; pub struct Parent;"),
        ("host/a.rs", "use super::{B, Parent}; pub struct A(B, Parent);"),
        ("host/b.rs", "pub struct B;"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_name_is_followed_through_reexports_to_its_definition() {
    let found = findings(&[
        ("lib.rs", "mod host;"),
        ("host.rs", "mod a; mod b; pub use b::B;"),
        ("host/a.rs", "pub struct A(crate::host::B);"),
        ("host/b.rs", "use super::a; pub struct B(Option<Box<a::A>>);"),
    ]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("host/a.rs -> host/b.rs: B\n  host/b.rs -> host/a.rs: A"), "{found:?}");
}

#[test]
fn a_reexport_by_an_upper_folder_is_an_upward_import() {
    let found = findings(&[
        ("lib.rs", "mod engine; mod fact; mod host;"),
        ("fact.rs", "pub struct Fact;"),
        ("engine.rs", "pub use crate::fact::Fact;"),
        ("host.rs", "use crate::engine::Fact;"),
    ]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("host.rs:1: host must not import engine (Fact)"), "{found:?}");
}

#[test]
fn what_a_macro_defines_belongs_to_the_file_that_calls_it() {
    let found = findings(&[
        ("lib.rs", "mod host;"),
        ("host.rs", "mod word; use word::Word; macro_rules! f { () => {} } pub struct S(Word);"),
        ("host/word.rs", "words! { Word { A } } fn g(_: super::S) { f!() }"),
    ]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("host.rs -> host/word.rs: Word\n  host/word.rs -> host.rs: S, f"), "{found:?}");
}

#[test]
fn a_variable_is_not_the_function_of_its_name() {
    let found = findings(&[
        ("lib.rs", "mod host;"),
        ("host.rs", "mod a; pub use a::client; pub fn f() { let client = 1; drop(client) }"),
        ("host/a.rs", "pub fn client() { super::f() }"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn tests_may_import_what_they_like() {
    let found = findings(&[
        ("lib.rs", "mod engine; mod host;"),
        ("host.rs", "#[cfg(test)] mod tests; #[cfg(test)] mod fake; #[cfg(test)] use crate::engine::Engine;"),
        ("host/tests.rs", "use crate::engine::Engine;"),
        ("host/fake.rs", "use crate::engine::Engine;"),
        ("engine.rs", "pub struct Engine; impl Engine { #[cfg(test)] fn f(_: crate::daemon::Daemon) {} }"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_file_that_does_not_parse_is_named_with_its_line() {
    let sources = [("lib.rs".to_owned(), "\nfn {}".to_owned())].into();
    let error = findings_in(&PACKAGES[0], &sources).unwrap_err().to_string();
    assert!(error.starts_with("lib.rs:2: cannot parse the file: "), "{error}");
}
