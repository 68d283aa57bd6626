//! What single items define and import.

use syn::{Attribute, Expr, ExprLit, Item, ItemUse, Lit, Meta, UseTree, Visibility};

/// Rust's three kinds of names: one name can be of each kind at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// Types, traits and modules.
    Type,
    /// Functions, constants and constructors.
    Value,
    Macro,
}

impl Namespace {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Type, Self::Value, Self::Macro];
}

/// One leaf of a `use` declaration.
#[derive(Debug)]
pub struct Import {
    /// The name it is given here; none for `*`.
    pub name: Option<String>,
    /// The path that is imported, or the path before the `*`.
    pub path: Vec<String>,
    /// Whether others can import it from here.
    pub reexport: bool,
    /// Whether the path ends with `self`, which names a module or type alone.
    pub only_type: bool,
    /// Where the leaf stands in its file.
    pub line: usize,
}

/// Whether an item is there in tests alone.
pub fn has_test_attribute(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::NameValue(_) => false,
    })
}

/// The file that `#[path = "…"]` names.
pub fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

pub fn defined(item: &Item) -> Vec<(Namespace, String)> {
    let (namespaces, name): (&[Namespace], _) = match item {
        Item::Const(item) => (&[Namespace::Value], &item.ident),
        Item::Fn(item) => (&[Namespace::Value], &item.sig.ident),
        Item::Static(item) => (&[Namespace::Value], &item.ident),
        Item::Struct(item) => (&[Namespace::Type, Namespace::Value], &item.ident),
        Item::Enum(item) => (&[Namespace::Type], &item.ident),
        Item::Trait(item) => (&[Namespace::Type], &item.ident),
        Item::Type(item) => (&[Namespace::Type], &item.ident),
        Item::Union(item) => (&[Namespace::Type], &item.ident),
        Item::Macro(item) => match &item.ident {
            Some(name) => (&[Namespace::Macro], name),
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    namespaces.iter().map(|namespace| (*namespace, name.to_string())).collect()
}

/// The leaves of a `use` declaration.
pub fn imports(declared: &ItemUse) -> Vec<Import> {
    let mut leaves = Vec::new();
    let reexport = !matches!(declared.vis, Visibility::Inherited);
    collect_leaves(&declared.tree, &mut Vec::new(), reexport, &mut leaves);
    leaves
}

fn collect_leaves(tree: &UseTree, path: &mut Vec<String>, reexport: bool, leaves: &mut Vec<Import>) {
    let (name, given) = match tree {
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            collect_leaves(&step.tree, path, reexport, leaves);
            path.pop();
            return;
        }
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| collect_leaves(tree, path, reexport, leaves));
            return;
        }
        UseTree::Glob(glob) => {
            let line = glob.star_token.spans[0].start().line;
            let path = path.clone();
            leaves.push(Import { name: None, path, reexport, only_type: true, line });
            return;
        }
        UseTree::Name(leaf) => (&leaf.ident, &leaf.ident),
        UseTree::Rename(leaf) => (&leaf.ident, &leaf.rename),
    };
    let only_type = name == "self" && !path.is_empty();
    let mut full = path.clone();
    if !only_type {
        full.push(name.to_string());
    }
    let given = if given == "self" { full.last().cloned() } else { Some(given.to_string()) };
    leaves.push(Import { name: given, path: full, reexport, only_type, line: name.span().start().line });
}
