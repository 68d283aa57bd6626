//! The machines that a release is for, and what the tools call them.

/// A kind of processor. Linux, and no library of the host: the programs are static.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Machine {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Machine {
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// Rust's name of it.
    pub fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// Debian's name, which is also that of container images.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The kernel's name, which is also that of RPM packages.
    pub fn uname(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Debian's packages of the C compiler for it, beside those that every build takes.
    pub fn compilers(self) -> &'static [&'static str] {
        match self {
            Self::Aarch64 if !self.is_here() => {
                &["binutils-aarch64-linux-gnu", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]
            }
            Self::X86_64 | Self::Aarch64 => &["gcc"],
        }
    }

    /// The C compiler and linker, where the usual one does not do.
    pub fn compiler(self) -> Option<&'static str> {
        match self {
            Self::Aarch64 if !self.is_here() => Some("aarch64-linux-gnu-gcc"),
            Self::X86_64 | Self::Aarch64 => None,
        }
    }

    /// Whether rustc itself links static programs for it that are loaded at any address.
    pub fn has_static_pie(self) -> bool {
        match self {
            Self::X86_64 => true,
            Self::Aarch64 => false,
        }
    }

    pub fn strip(self) -> &'static str {
        match self {
            Self::Aarch64 if !self.is_here() => "aarch64-linux-gnu-strip",
            Self::X86_64 | Self::Aarch64 => "strip",
        }
    }

    /// Whether this host can run a program for it.
    pub fn is_here(self) -> bool {
        std::env::consts::ARCH == self.uname()
    }
}
