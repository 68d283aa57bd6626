//! Where things are in this kernel: its own type information (BTF), usually `/sys/kernel/btf/vmlinux`.
//!
//! Kernel versions are never compared. Distributions backport fields and change tracepoint arguments in stable
//! releases, so the only word that counts is what the running kernel says about itself.

use std::path::{Path, PathBuf};

use btf_rs::{Btf, BtfType, Struct, Type};

pub mod reduce;
#[cfg(test)]
mod tests;

/// Where a counter's value is, in each of the structures that hold some.
pub(super) const COUNT: &str = "count";

/// Types that refer to one another are followed this far, so that type information that refers to itself cannot hang
/// the daemon.
const DEPTH: usize = 32;

/// For the same reason, no more members without a name are looked into for one field. Kernels have a dozen.
const NAMELESS: u32 = 256;

/// Why something could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is missing or is not BTF.
    #[error("cannot read kernel type information from {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// No such structure, enum or tracepoint prototype.
    #[error("this kernel has no type {0}")]
    NoType(String),
    /// The structure is there, the field is not.
    #[error("this kernel has no field {structure}.{member}")]
    NoMember {
        /// The structure.
        structure: String,
        /// Path of the field in it.
        member: String,
    },
    /// A field is there, but is not what it should be.
    #[error("this kernel's {what} is of an unknown kind")]
    Unexpected {
        /// What was looked at.
        what: String,
    },
}

/// One argument of a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A pointer to the named structure.
    Pointer(String),
    /// Anything else.
    Scalar,
}

/// A field: how far it is from the start of the structure it was looked up in, and its type.
#[derive(Clone, Debug)]
pub struct Located {
    /// Bytes from the start.
    pub offset: u32,
    ty: Type,
}

impl Located {
    /// The same field, seen from what holds its structure at this offset; none where no structure can be as long.
    fn within(self, offset: u32) -> Option<Self> {
        Some(Self { offset: offset.checked_add(self.offset)?, ty: self.ty })
    }
}

/// Offset of the `index`th of the counters from `start`; none where no structure can be as long.
fn place(start: u32, index: u32, stride: u32, within: u32) -> Option<u32> {
    index.checked_mul(stride)?.checked_add(start)?.checked_add(within)
}

/// The type information of one kernel.
pub struct KernelTypes {
    btf: Btf,
}

impl KernelTypes {
    /// Reads of a BTF file what the resolver looks at, and no more.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let unreadable = |reason: String| BtfError::Unreadable { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        reduce::reduce(&bytes).and_then(|reduced| Self::parse(&reduced)).map_err(unreadable)
    }

    /// Reads BTF from memory; the error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        // The reader makes room for as much as the header promises.
        reduce::Sections::find(bytes)?;
        Ok(Self { btf: Btf::from_bytes(bytes).map_err(|error| error.to_string())? })
    }

    /// Offset of a field in bytes. `member` may go down into structures held by value: `a.b`.
    pub fn offset(&self, structure: &str, member: &str) -> Result<u32, BtfError> {
        Ok(self.locate(structure, member)?.offset)
    }

    /// A field's place and type.
    pub fn locate(&self, structure: &str, member: &str) -> Result<Located, BtfError> {
        let missing = || BtfError::NoMember { structure: structure.to_owned(), member: member.to_owned() };
        // The same name may stand for several types; the field decides which is meant.
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

    /// Size of a structure in bytes.
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

    /// Value of a constant of an enum without a name, found by one of its constants.
    pub fn anonymous_constant(&self, name: &str) -> Result<u32, BtfError> {
        self.constant("", name).map_err(|_| BtfError::NoType(name.to_owned()))
    }

    /// Offset of the `index`th 64-bit counter in an array field, whichever way this kernel keeps it: as an array of
    /// structures with a `count`, or as a structure that holds an array `count`.
    pub fn counter_offset(&self, structure: &str, member: &str, index: u32) -> Result<u32, BtfError> {
        let unexpected = || BtfError::Unexpected { what: format!("{structure}.{member}") };
        let field = self.locate(structure, member)?;
        if let Type::Array(array) = &field.ty {
            let element = self.btf.resolve_chained_type(array).map_err(|_| unexpected())?;
            let element = self.as_struct(&element).ok_or_else(unexpected)?;
            let count = self.member(&element, COUNT).ok_or_else(unexpected)?;
            let stride = u32::try_from(element.size()).map_err(|_| unexpected())?;
            return place(field.offset, index, stride, count.offset).ok_or_else(unexpected);
        }
        let holder = self.as_struct(&field.ty).ok_or_else(unexpected)?;
        let count = self.member(&holder, COUNT).ok_or_else(unexpected)?;
        if !matches!(count.ty, Type::Array(_)) {
            return Err(unexpected());
        }
        place(field.offset, index, 8, count.offset).ok_or_else(unexpected)
    }

    /// Name of the type that describes a raw tracepoint's arguments.
    pub fn prototype(tracepoint: &str) -> String {
        format!("btf_trace_{tracepoint}")
    }

    /// The arguments of a raw tracepoint, in order.
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

    /// Looks a field up, also in members without a name, whose fields belong to the structure around them.
    fn member(&self, structure: &Struct, name: &str) -> Option<Located> {
        self.member_within(structure, name, &mut { NAMELESS })
    }

    /// Likewise, in as many members without a name as are `left`.
    fn member_within(&self, structure: &Struct, name: &str, left: &mut u32) -> Option<Located> {
        for member in &structure.members {
            let own = self.name(member);
            let offset = member.bit_offset() / 8;
            if own == name {
                return Some(Located { offset, ty: self.plain(self.btf.resolve_chained_type(member).ok()?) });
            }
            if own.is_empty()
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
