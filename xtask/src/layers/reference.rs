//! What each module names of the others.

use std::collections::HashSet;

use syn::{
    Attribute, Block, ExprPath, ImplItem, Item, ItemUse, Macro, Meta, PatIdent, Stmt, TypePath, Visibility,
    visit::{self, Visit},
};

use super::{
    module::{ModuleId, Tree},
    resolve::{Resolved, Target},
    syntax::{Import, Namespace, defined, has_test_attribute, imports},
    tokens,
};

/// A name in a module that leads to a module or an item of the same package.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The module it stands in.
    pub from: ModuleId,
    /// Where it stands in that module's file.
    pub line: usize,
    /// What it leads to, and by which module.
    pub to: Resolved,
    /// Whether it only re-exports what a module below defines.
    pub is_facade: bool,
}

/// All references of a package.
pub fn references(tree: &Tree) -> Vec<Reference> {
    let mut found = Vec::new();
    for (module, content) in tree.modules.iter().enumerate() {
        let mut names =
            Names { tree, module, scopes: Vec::new(), variables: HashSet::new(), found: &mut found };
        for item in &content.syntax {
            names.variables = variables(item);
            names.visit_item(item);
        }
    }
    found
}

/// What a block declares for itself.
struct Scope {
    items: HashSet<(Namespace, String)>,
    imports: Vec<Import>,
}

struct Names<'a> {
    tree: &'a Tree,
    module: ModuleId,
    scopes: Vec<Scope>,
    variables: HashSet<String>,
    found: &'a mut Vec<Reference>,
}

impl Names<'_> {
    /// Notes what a path leads to in each of these namespaces.
    fn note(&mut self, path: &[String], line: usize, namespaces: &[Namespace], is_reexport: bool) {
        for namespace in namespaces {
            let Some(to) = self.resolve(path, *namespace) else { continue };
            let defined_below = match &to.target {
                Target::Item(module, _) | Target::Module(module) => self.tree.contains(self.module, *module),
            };
            let is_facade = is_reexport && defined_below;
            self.found.push(Reference { from: self.module, line, to, is_facade });
        }
    }

    /// Resolves a path by the blocks around it, the innermost first, then by the module.
    fn resolve(&self, path: &[String], namespace: Namespace) -> Option<Resolved> {
        let (first, rest) = path.split_first()?;
        let of_first = if rest.is_empty() { namespace } else { Namespace::Type };
        for scope in self.scopes.iter().rev() {
            if scope.items.contains(&(of_first, first.clone())) {
                return None;
            }
            let found = self.tree.imported(&scope.imports, self.module, first, of_first);
            if let Some(Target::Module(module)) = found
                && !rest.is_empty()
            {
                let inside: Vec<_> = std::iter::once("self".to_owned()).chain(rest.iter().cloned()).collect();
                return self.tree.resolve(module, &inside, namespace);
            } else if let Some(target) = found {
                return Some(Resolved { through: self.module, target });
            }
        }
        self.tree.resolve(self.module, path, namespace)
    }

    fn note_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        for path in tokens::paths(tokens) {
            let both = [Namespace::Type, Namespace::Value];
            let namespaces = if path.is_macro { &[Namespace::Macro][..] } else { &both[..] };
            self.note(&path.segments, path.line, namespaces, false);
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_use(&mut self, declared: &'ast ItemUse) {
        for import in imports(declared) {
            // A glob leads to a module. The items that are used of it are noted where they are used.
            let namespaces = if import.only_type { &[Namespace::Type][..] } else { &Namespace::ALL[..] };
            self.note(&import.path, import.line, namespaces, import.reexport);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let namespaces = [Namespace::Type, Namespace::Value];
        let namespaces = if path.segments.len() > 1 { &namespaces[..] } else { &namespaces[..1] };
        self.note(&names(path), line(path), namespaces, false);
        visit::visit_path(self, path);
    }

    fn visit_expr_path(&mut self, expression: &'ast ExprPath) {
        let path = &expression.path;
        let single = path.segments.len() == 1 && expression.qself.is_none();
        if !single {
            visit::visit_expr_path(self, expression);
            return;
        }
        let name = names(path);
        if !self.variables.contains(&name[0]) {
            self.note(&name, line(path), &[Namespace::Value, Namespace::Type], false);
        }
        path.segments.iter().for_each(|segment| self.visit_path_arguments(&segment.arguments));
    }

    fn visit_type_path(&mut self, path: &'ast TypePath) {
        // `<X>::Y` names nothing but X.
        if let Some(qself) = path.qself.as_ref().filter(|qself| qself.position == 0) {
            self.visit_qself(qself);
            return;
        }
        visit::visit_type_path(self, path);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        let name = pattern.ident.to_string();
        if is_constant(&name) {
            self.note(&[name], pattern.ident.span().start().line, &[Namespace::Value], false);
        }
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.note(&names(&call.path), line(&call.path), &[Namespace::Macro], false);
        self.note_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.note_tokens(list.tokens.clone());
            for path in tokens::quoted_paths(list.tokens.clone()) {
                self.note(&path.segments, path.line, &[Namespace::Value, Namespace::Type], false);
            }
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_block(&mut self, block: &'ast Block) {
        let mut scope = Scope { items: HashSet::new(), imports: Vec::new() };
        for statement in &block.stmts {
            if let Stmt::Item(item) = statement {
                scope.items.extend(defined(item));
                if let Item::Use(declared) = item {
                    scope.imports.extend(imports(declared));
                }
            }
        }
        self.scopes.push(scope);
        visit::visit_block(self, block);
        self.scopes.pop();
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if has_test_attribute(attributes) {
            return;
        }
        visit::visit_impl_item(self, item);
    }
}

/// The variables that the patterns of an item bind. A name in an expression may be one of them.
fn variables(item: &Item) -> HashSet<String> {
    struct Variables(HashSet<String>);
    impl<'ast> Visit<'ast> for Variables {
        fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
            let name = pattern.ident.to_string();
            if !is_constant(&name) {
                self.0.insert(name);
            }
            visit::visit_pat_ident(self, pattern);
        }
    }
    let mut variables = Variables(HashSet::new());
    variables.visit_item(item);
    variables.0
}

/// Whether a name in a pattern is that of a constant or a unit type, by Rust's conventions.
fn is_constant(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn line(path: &syn::Path) -> usize {
    path.segments.first().map_or(0, |segment| segment.ident.span().start().line)
}
