//! Architectures: their names, their audit numbers, and the numbers of their system calls.

use super::syscalls::{COLUMNS, TABLE};

/// Set in the number of every x32 call (source: `__X32_SYSCALL_BIT`, asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// An architecture with a system call table here. The order is that of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "names of architectures")]
pub enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// How wide a system call's arguments are: libseccomp compares only the lower half on 32-bit ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Bits32,
    Bits64,
}

/// One of the two i386 calls that carry others inside, numbered by their first argument.
pub(super) struct Carrier {
    /// `socketcall` or `ipc`.
    pub(super) name: &'static str,
    /// What the first argument is for the call in question.
    pub(super) selector: u64,
}

impl Arch {
    /// What this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// What this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;
    /// What this program was built for.
    #[cfg(target_arch = "arm")]
    pub const NATIVE: Self = Self::Arm;

    /// All of them.
    pub const ALL: [Self; COLUMNS] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// By the name that profiles use, such as `SCMP_ARCH_X86_64`.
    pub fn from_scmp(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.scmp() == name)
    }

    /// The name that profiles use.
    pub fn scmp(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// The name that `includes.arches` of Docker's profiles use.
    pub(super) fn docker(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// What the kernel puts into `seccomp_data.arch` (source: linux/audit.h). x32 has x86_64's.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    pub(super) fn width(self) -> Width {
        match self {
            Self::X86_64 | Self::Aarch64 => Width::Bits64,
            Self::X86 | Self::X32 | Self::Arm => Width::Bits32,
        }
    }

    /// The number of a call as `seccomp_data.nr` has it, if the architecture has the call.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let row = TABLE.binary_search_by_key(&name, |(known, _)| known).ok()?;
        let number = u32::try_from(TABLE[row].1[self as usize]).ok()?;
        Some(if self == Self::X32 { number | X32_BIT } else { number })
    }

    /// The call that carries `name` on this architecture: old i386 programs reach sockets and System V IPC
    /// only through `socketcall` and `ipc` (source: linux/net.h, linux/ipc.h).
    pub(super) fn carrier(self, name: &str) -> Option<Carrier> {
        if self != Self::X86 {
            return None;
        }
        let find = |list: &[(&str, u64)]| list.iter().find(|(call, _)| *call == name).map(|(_, n)| *n);
        if let Some(selector) = find(&SOCKETCALLS) {
            return Some(Carrier { name: "socketcall", selector });
        }
        find(&IPC_CALLS).map(|selector| Carrier { name: "ipc", selector })
    }
}

const SOCKETCALLS: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_are_unique() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn numbers_are_the_kernels() {
        for (arch, name, number) in [
            (Arch::X86_64, "clone3", Some(435)),
            (Arch::X86_64, "socketcall", None),
            (Arch::X86, "socketcall", Some(102)),
            (Arch::X86, "socket", Some(359)),
            (Arch::X86, "accept", None),
            (Arch::X32, "rt_sigaction", Some(X32_BIT | 512)),
            (Arch::X32, "read", Some(X32_BIT)),
            (Arch::Aarch64, "openat", Some(56)),
            (Arch::Aarch64, "open", None),
            (Arch::Arm, "cacheflush", Some(0xf0002)),
            (Arch::X86_64, "nonsense", None),
        ] {
            assert_eq!(arch.number(name), number, "{arch:?} {name}");
        }
    }

    #[test]
    fn the_native_table_agrees_with_this_machine() {
        let header = std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h");
        let Ok(header) = header else { return }; // only where the kernel's headers are installed
        for line in header.lines() {
            let mut words = line.split_whitespace();
            let (Some("#define"), Some(name), Some(number)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Some(name) = name.strip_prefix("__NR_") else { continue };
            assert_eq!(Arch::X86_64.number(name), number.parse().ok(), "{name}");
        }
    }
}
