//! Offsets of fields and forms of tracepoints in the running kernel, from its type information (BTF).
//!
//! The daemon never compares kernel versions. Distributions backport fields and change tracepoint arguments in stable
//! releases, so only the running kernel's own description is reliable.

use std::path::{Path, PathBuf};

use btf_rs::{Btf, BtfType, Struct, Type};

use self::sections::{DEPTH, PROTOTYPE_PREFIX, Sections};

mod modules;
pub mod reduce;
pub mod sections;
#[cfg(test)]
mod tests;

/// The field with the value, in each of the structures that hold counters.
pub(super) const COUNT: &str = "count";

/// Most nameless members searched for one field, because types may refer to themselves. Kernels have a dozen.
const NAMELESS: u32 = 256;

#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("{path}: cannot read kernel type information: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("this kernel has no type {0}")]
    NoType(String),
    #[error("this kernel has no field {structure}.{member}")]
    NoMember { structure: String, member: String },
    /// The field exists, but its type is none that the lookup understands.
    #[error("this kernel's {what} is of an unknown kind")]
    Unexpected { what: String },
}

/// One argument of a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A pointer to the named structure.
    Pointer(String),
    Scalar,
}

/// A field: its type, and its offset in the structure where the lookup began.
#[derive(Clone, Debug)]
pub struct Located {
    pub offset: u32,
    ty: Type,
}

impl Located {
    /// The same field in a structure that holds its own at `offset`; none if the sum overflows.
    fn within(self, offset: u32) -> Option<Self> {
        Some(Self { offset: offset.checked_add(self.offset)?, ty: self.ty })
    }
}

/// Offset of the `index`th of the counters from `start`; none if it overflows.
fn counter_at(start: u32, index: u32, stride: u32, within: u32) -> Option<u32> {
    index.checked_mul(stride)?.checked_add(start)?.checked_add(within)
}

/// The type information of one kernel.
pub struct KernelTypes {
    btf: Btf,
}

impl KernelTypes {
    /// Reads the named types of a kernel's BTF file and of the files of those modules that are there. The file of a module
    /// that makes no sense is left out.
    pub fn read(path: &Path, modules: &[&str], names: &reduce::Names) -> Result<Self, BtfError> {
        let unreadable = |reason: String| BtfError::Unreadable { path: path.to_owned(), reason };
        let kernel = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        let modules: Vec<Vec<u8>> =
            modules.iter().filter_map(|name| std::fs::read(path.with_file_name(name)).ok()).collect();
        reduce::reduce(&modules::joined(&kernel, &modules).map_err(unreadable)?, names)
            .and_then(|reduced| Self::parse(&reduced))
            .map_err(unreadable)
    }

    /// Reads BTF from memory.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        // The reader allocates as much as the header claims, so the header is checked before.
        Sections::find(bytes)?;
        Ok(Self { btf: Btf::from_bytes(bytes).map_err(|error| error.to_string())? })
    }

    /// Offset of a field in bytes. `member` may be a path through structures held by value: `a.b`.
    pub fn offset(&self, structure: &str, member: &str) -> Result<u32, BtfError> {
        Ok(self.locate(structure, member)?.offset)
    }

    pub fn locate(&self, structure: &str, member: &str) -> Result<Located, BtfError> {
        let missing = || BtfError::NoMember { structure: structure.to_owned(), member: member.to_owned() };
        // Several types may have the same name. The one with the field is meant.
        let mut found = None;
        for start in self.structures(structure)? {
            let mut steps = member.split('.');
            found = steps.next().and_then(|step| self.member(&start, step));
            for step in steps {
                found = found.and_then(|outer| {
                    let inner = self.member(&self.as_struct(&outer.ty)?, step)?;
                    inner.within(outer.offset)
                });
            }
            if found.is_some() {
                break;
            }
        }
        found.ok_or_else(missing)
    }

    /// In bytes.
    pub fn size_of(&self, structure: &str) -> Result<u32, BtfError> {
        let first = self.structures(structure)?.into_iter().next();
        let size = first.map(|it| it.size()).ok_or_else(|| BtfError::NoType(structure.to_owned()))?;
        u32::try_from(size).map_err(|_| BtfError::Unexpected { what: format!("size of {structure}") })
    }

    /// Value of an enum's constant.
    pub fn constant(&self, enumeration: &str, name: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::NoType(format!("{enumeration}::{name}"));
        for ty in self.types(enumeration)? {
            if let Type::Enum(it) = ty {
                for member in &it.members {
                    if self.name(member) == name {
                        return Ok(member.val());
                    }
                }
            }
        }
        Err(missing())
    }

    /// Value of a constant of an enum without a name.
    pub fn anonymous_constant(&self, name: &str) -> Result<u32, BtfError> {
        self.constant("", name).map_err(|_| BtfError::NoType(name.to_owned()))
    }

    /// Offset of the `index`th 64-bit counter in a field. Kernels have two forms: an array of structures with a
    /// `count`, and a structure with an array `count`.
    pub fn counter_offset(&self, structure: &str, member: &str, index: u32) -> Result<u32, BtfError> {
        let unexpected = || BtfError::Unexpected { what: format!("{structure}.{member}") };
        let field = self.locate(structure, member)?;
        if let Type::Array(array) = &field.ty {
            let element = self.btf.resolve_chained_type(array).map_err(|_| unexpected())?;
            let element = self.as_struct(&element).ok_or_else(unexpected)?;
            let count = self.member(&element, COUNT).ok_or_else(unexpected)?;
            let stride = u32::try_from(element.size()).map_err(|_| unexpected())?;
            return counter_at(field.offset, index, stride, count.offset).ok_or_else(unexpected);
        }
        let holder = self.as_struct(&field.ty).ok_or_else(unexpected)?;
        let count = self.member(&holder, COUNT).ok_or_else(unexpected)?;
        if !matches!(count.ty, Type::Array(_)) {
            return Err(unexpected());
        }
        counter_at(field.offset, index, 8, count.offset).ok_or_else(unexpected)
    }

    /// Name of the type that describes a raw tracepoint's arguments.
    pub fn prototype(tracepoint: &str) -> String {
        format!("{PROTOTYPE_PREFIX}{tracepoint}")
    }

    /// The arguments of a raw tracepoint.
    pub fn tracepoint(&self, name: &str) -> Result<Vec<Argument>, BtfError> {
        let prototype = Self::prototype(name);
        let missing = || BtfError::NoType(prototype.clone());
        for ty in self.types(&prototype)? {
            let Type::Typedef(alias) = &ty else { continue };
            let Some(Type::FuncProto(proto)) =
                self.btf.chained_type_iter(alias).take(DEPTH).find(|it| matches!(it, Type::FuncProto(_)))
            else {
                continue;
            };
            // The first parameter is the tracepoint's own data.
            return Ok(proto.parameters.iter().skip(1).map(|it| self.argument(it)).collect());
        }
        Err(missing())
    }

    fn argument(&self, parameter: &impl BtfType) -> Argument {
        let mut pointer = false;
        let first = self.btf.resolve_chained_type(parameter).ok();
        let rest = first.iter().filter_map(Type::as_btf_type).flat_map(|it| self.btf.chained_type_iter(it));
        for ty in first.clone().into_iter().chain(rest.take(DEPTH)) {
            pointer |= matches!(ty, Type::Ptr(_));
            if let Type::Struct(it) = &ty
                && pointer
            {
                return Argument::Pointer(self.name(it));
            }
        }
        if pointer { Argument::Pointer(String::new()) } else { Argument::Scalar }
    }

    fn types(&self, name: &str) -> Result<Vec<Type>, BtfError> {
        self.btf.resolve_types_by_name(name).map_err(|_| BtfError::NoType(name.to_owned()))
    }

    fn structures(&self, name: &str) -> Result<Vec<Struct>, BtfError> {
        let found: Vec<_> = self.types(name)?.iter().filter_map(|it| self.as_struct(it)).collect();
        if found.is_empty() { Err(BtfError::NoType(name.to_owned())) } else { Ok(found) }
    }

    /// Looks a field up, in nameless members too: their fields belong to the outer structure.
    fn member(&self, structure: &Struct, name: &str) -> Option<Located> {
        self.member_within(structure, name, &mut { NAMELESS })
    }

    /// [`Self::member`] in at most `left` nameless members.
    fn member_within(&self, structure: &Struct, name: &str, left: &mut u32) -> Option<Located> {
        for member in &structure.members {
            let found = self.name(member);
            let offset = member.bit_offset() / 8;
            if found == name {
                return Some(Located { offset, ty: self.plain(self.btf.resolve_chained_type(member).ok()?) });
            }
            if found.is_empty()
                && let Ok(ty) = self.btf.resolve_chained_type(member)
                && let Some(inner) = self.as_struct(&ty)
            {
                *left = left.checked_sub(1)?;
                if let Some(found) = self.member_within(&inner, name, left) {
                    return found.within(offset);
                }
            }
        }
        None
    }

    fn as_struct(&self, ty: &Type) -> Option<Struct> {
        if let Type::Struct(it) | Type::Union(it) = self.plain(ty.clone()) { Some(it) } else { None }
    }

    /// Strips typedefs and qualifiers.
    fn plain(&self, mut ty: Type) -> Type {
        for _ in 0..DEPTH {
            let inner = if let Type::Typedef(it) = &ty {
                self.btf.resolve_chained_type(it)
            } else if let Type::Const(it) | Type::Volatile(it) | Type::Restrict(it) = &ty {
                self.btf.resolve_chained_type(it)
            } else if let Type::TypeTag(it) = &ty {
                self.btf.resolve_chained_type(it)
            } else {
                return ty;
            };
            let Ok(inner) = inner else { return ty };
            ty = inner;
        }
        ty
    }

    fn name(&self, of: &dyn BtfType) -> String {
        self.btf.resolve_name(of).unwrap_or_default()
    }
}
