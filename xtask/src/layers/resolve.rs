//! From a path to the module that defines what the path names, through imports and re-exports.

use std::collections::HashSet;

use super::{
    module::{ModuleId, Tree},
    syntax::{Import, Namespace},
};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A module of this package.
    Module(ModuleId),
    /// An item, by the module that defines it.
    Item(ModuleId, String),
}

/// A resolved path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The last module that the path itself names.
    pub through: ModuleId,
    /// What it leads to.
    pub target: Target,
}

/// The names that are being resolved, so that imports that import each other come to an end.
type Pending = HashSet<(ModuleId, String, Namespace)>;

impl Tree {
    /// Resolves a path that stands in a module. None for what other packages define.
    pub fn resolve(&self, from: ModuleId, path: &[String], namespace: Namespace) -> Option<Resolved> {
        self.resolve_pending(from, path, namespace, &mut Pending::new())
    }

    fn resolve_pending(
        &self,
        from: ModuleId,
        path: &[String],
        namespace: Namespace,
        pending: &mut Pending,
    ) -> Option<Resolved> {
        let (first, rest) = path.split_first()?;
        let of_first = if rest.is_empty() { namespace } else { Namespace::Type };
        let mut through = from;
        let mut target = match first.as_str() {
            "crate" => Target::Module(self.root_of(from)),
            "self" => Target::Module(from),
            "super" => Target::Module(self.modules[from].parent?),
            "Self" => return None,
            name => self
                .lookup(from, name, of_first, pending)
                .or_else(|| self.textual_macro(from, name, of_first))
                .or_else(|| self.library_named(name))?,
        };
        for (at, name) in rest.iter().enumerate() {
            // What follows an item is its variant, constant or method.
            let Target::Module(module) = target else { break };
            through = module;
            let of_this = if at + 1 == rest.len() { namespace } else { Namespace::Type };
            target = match name.as_str() {
                "super" => Target::Module(self.modules[module].parent?),
                "self" => target,
                name => self.lookup(module, name, of_this, pending).or_else(|| {
                    let generated = self.modules[module].is_generated && of_this != Namespace::Macro;
                    generated.then(|| Target::Item(module, name.to_owned()))
                })?,
            };
        }
        if let Target::Module(module) = target {
            through = module;
        }
        Some(Resolved { through, target })
    }

    /// What a name means in a module.
    fn lookup(
        &self,
        module: ModuleId,
        name: &str,
        namespace: Namespace,
        pending: &mut Pending,
    ) -> Option<Target> {
        let key = (module, name.to_owned(), namespace);
        if !pending.insert(key.clone()) {
            return None;
        }
        let found = self.lookup_once(module, name, namespace, pending);
        pending.remove(&key);
        found
    }

    fn lookup_once(
        &self,
        module: ModuleId,
        name: &str,
        namespace: Namespace,
        pending: &mut Pending,
    ) -> Option<Target> {
        let here = &self.modules[module];
        if namespace == Namespace::Type
            && let Some(child) = here.children.get(name)
        {
            return Some(Target::Module(*child));
        }
        if here.items.contains(&(namespace, name.to_owned())) {
            return Some(Target::Item(module, name.to_owned()));
        }
        self.find_import(&here.imports, module, name, namespace, pending)
    }

    /// What a name means by some imports of a module.
    pub fn imported(
        &self,
        imports: &[Import],
        module: ModuleId,
        name: &str,
        namespace: Namespace,
    ) -> Option<Target> {
        self.find_import(imports, module, name, namespace, &mut Pending::new())
    }

    fn find_import(
        &self,
        imports: &[Import],
        module: ModuleId,
        name: &str,
        namespace: Namespace,
        pending: &mut Pending,
    ) -> Option<Target> {
        let named = imports.iter().filter(|import| import.name.as_deref() == Some(name));
        for import in named.filter(|import| !import.only_type || namespace == Namespace::Type) {
            if let Some(found) = self.resolve_pending(module, &import.path, namespace, pending) {
                return Some(found.target);
            }
        }
        for glob in imports.iter().filter(|import| import.name.is_none()) {
            let of_glob = self.resolve_pending(module, &glob.path, Namespace::Type, pending);
            if let Some(Resolved { target: Target::Module(source), .. }) = of_glob
                && let Some(found) = self.lookup(source, name, namespace, pending)
            {
                return Some(found);
            }
        }
        None
    }

    /// A macro that a module above defines: `macro_rules!` reaches into the modules declared after it.
    fn textual_macro(&self, module: ModuleId, name: &str, namespace: Namespace) -> Option<Target> {
        if namespace != Namespace::Macro {
            return None;
        }
        let mut above = self.modules[module].parent;
        while let Some(module) = above {
            if self.modules[module].items.contains(&(namespace, name.to_owned())) {
                return Some(Target::Item(module, name.to_owned()));
            }
            above = self.modules[module].parent;
        }
        None
    }

    fn library_named(&self, name: &str) -> Option<Target> {
        self.library.as_ref().filter(|(library, _)| library == name).map(|(_, root)| Target::Module(*root))
    }
}
