//! The modules of a package: what each one defines and imports.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use syn::{Item, ItemMod};

use super::{
    source::{Sources, is_test},
    syntax::{Import, Namespace, attributes, defined, has_test_attribute, imports, path_attribute},
};

/// The number of a module in its tree.
pub type ModuleId = usize;

/// A module: a file, or a part of one.
pub struct Module {
    /// Its file's path in the package.
    pub file: String,
    /// None for the root of a crate.
    pub parent: Option<ModuleId>,
    /// The modules declared in it.
    pub children: HashMap<String, ModuleId>,
    /// What it defines, modules left out.
    pub items: HashSet<(Namespace, String)>,
    pub imports: Vec<Import>,
    /// Whether a macro call may define items here that nothing else shows.
    pub is_generated: bool,
    /// Its items without modules and tests.
    pub syntax: Vec<Item>,
}

/// All modules of a package.
#[derive(Default)]
pub struct Tree {
    /// By their numbers.
    pub modules: Vec<Module>,
    /// The library's name and root.
    pub library: Option<(String, ModuleId)>,
}

impl Tree {
    /// Parses the crates of a package: its library, `main.rs`, and the programs in `bin/`.
    pub fn parse(sources: &Sources, library: Option<(&str, &str)>) -> Result<Self> {
        let mut tree = Self::default();
        for file in sources.keys() {
            let parts: Vec<&str> = file.split('/').collect();
            let is_library = library.is_some_and(|(root, _)| root == file);
            let is_root = is_library || matches!(parts[..], ["main.rs"] | ["bin", _] | ["bin", _, "main.rs"]);
            if is_root {
                let root = tree.add_file(sources, file, &parts[..parts.len() - 1].join("/"), None)?;
                if is_library {
                    tree.library = library.map(|(_, name)| (name.to_owned(), root));
                }
            }
        }
        Ok(tree)
    }

    /// The module that `crate` means in a module.
    pub fn root_of(&self, mut module: ModuleId) -> ModuleId {
        while let Some(parent) = self.modules[module].parent {
            module = parent;
        }
        module
    }

    /// Whether `above` is `module` or contains it.
    pub fn contains(&self, above: ModuleId, module: ModuleId) -> bool {
        let mut next = Some(module);
        while let Some(module) = next {
            if module == above {
                return true;
            }
            next = self.modules[module].parent;
        }
        false
    }

    /// A module's path from the root of its crate.
    pub fn path(&self, module: ModuleId) -> String {
        let Some(parent) = self.modules[module].parent else { return "crate".to_owned() };
        let name = self.modules[parent].children.iter().find(|(_, child)| **child == module);
        let name = name.map_or("", |(name, _)| name);
        let above = self.path(parent);
        if above == "crate" { name.to_owned() } else { format!("{above}::{name}") }
    }

    fn add_file(
        &mut self,
        sources: &Sources,
        file: &str,
        folder: &str,
        parent: Option<ModuleId>,
    ) -> Result<ModuleId> {
        let text = sources.get(file).with_context(|| format!("{file}: no such file"))?;
        let parsed = syn::parse_file(text).map_err(|error| {
            anyhow::anyhow!("{file}:{}: cannot parse the file: {error}", error.span().start().line)
        })?;
        self.add(sources, file, folder, parent, parsed.items)
    }

    /// Adds a module and those declared in it, whose files are in `folder`.
    fn add(
        &mut self,
        sources: &Sources,
        file: &str,
        folder: &str,
        parent: Option<ModuleId>,
        items: Vec<Item>,
    ) -> Result<ModuleId> {
        let id = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            children: HashMap::new(),
            items: HashSet::new(),
            imports: Vec::new(),
            is_generated: false,
            syntax: Vec::new(),
        });
        for item in items {
            match item {
                Item::Mod(declared) => {
                    let name = declared.ident.to_string();
                    if let Some(child) = self.add_child(sources, id, folder, declared)? {
                        self.modules[id].children.insert(name, child);
                    }
                }
                other if has_test_attribute(attributes(&other)) => {}
                other => {
                    let module = &mut self.modules[id];
                    module.items.extend(defined(&other));
                    match &other {
                        Item::Use(declared) => module.imports.extend(imports(declared)),
                        Item::Macro(call) => module.is_generated |= call.ident.is_none(),
                        _ => {}
                    }
                    module.syntax.push(other);
                }
            }
        }
        Ok(id)
    }

    fn add_child(
        &mut self,
        sources: &Sources,
        parent: ModuleId,
        folder: &str,
        declared: ItemMod,
    ) -> Result<Option<ModuleId>> {
        if has_test_attribute(&declared.attrs) {
            return Ok(None);
        }
        let name = declared.ident.to_string();
        let inside = join(folder, &name);
        let file = self.modules[parent].file.clone();
        if let Some((_, items)) = declared.content {
            return self.add(sources, &file, &inside, Some(parent), items).map(Some);
        }
        let beside = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let child = if let Some(path) = path_attribute(&declared.attrs) {
            join(beside, &path)
        } else if sources.contains_key(&format!("{inside}.rs")) {
            format!("{inside}.rs")
        } else {
            format!("{inside}/mod.rs")
        };
        if is_test(&child) {
            return Ok(None);
        }
        let added = self.add_file(sources, &child, &inside, Some(parent));
        added.with_context(|| format!("{file}: cannot read module {name}")).map(Some)
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
