//! A profile after everything conditional is decided: what [`super::lower`] compiles.

use super::Arch;

/// `SCMP_ACT_*` words of profiles, sorted, as `features` lists them.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// `SCMP_CMP_*` words of profiles, sorted.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// `SCMP_ARCH_*` words of profiles, sorted. Those without a table here can stand in a profile; a host of
/// ours never runs them.
pub const ARCHITECTURES: [&str; 18] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// Flags of profiles and their bits for seccomp(2). TSYNC is known and without effect, as in runc: the
/// filter is installed in a process of one thread.
pub const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 32),
];

/// What a filter answers: SECCOMP_RET_* with its data, as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Action(pub(super) u32);

impl Action {
    /// What libseccomp does to a call of an architecture that the filter does not know.
    pub(super) const KILL_THREAD: Self = Self(0);
    pub(super) const ENOSYS: Self = Self(RET_ERRNO | 38);

    /// From a profile's word. `errno` is for ERRNO and TRACE, without it EPERM as in runc; 16 bits count.
    pub(super) fn from_words(word: &str, errno: Option<u32>) -> Option<Self> {
        let data = errno.unwrap_or(1) & 0xffff;
        Some(Self(match word {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
            "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
            "SCMP_ACT_TRAP" => 0x0003_0000,
            "SCMP_ACT_ERRNO" => RET_ERRNO | data,
            "SCMP_ACT_NOTIFY" => RET_NOTIFY,
            "SCMP_ACT_TRACE" => RET_TRACE | data,
            "SCMP_ACT_LOG" => RET_LOG,
            "SCMP_ACT_ALLOW" => RET_ALLOW,
            _ => return None,
        }))
    }

    pub(super) fn is_notify(self) -> bool {
        self.0 == RET_NOTIFY
    }

    /// Whether a call that the profile does not name goes on to the kernel (or to a tracer who knows): then
    /// the kernel itself answers ENOSYS for calls it does not have.
    pub(super) fn lets_unknown_calls_through(self) -> bool {
        matches!(self.0 & 0xffff_0000, RET_ALLOW | RET_LOG | RET_TRACE)
    }
}

const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// A comparison of profiles (source: seccomp_rule_add(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operator {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    /// `argument & value == value_two`
    MaskedEq,
}

impl Operator {
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "SCMP_CMP_NE" => Self::Ne,
            "SCMP_CMP_LT" => Self::Lt,
            "SCMP_CMP_LE" => Self::Le,
            "SCMP_CMP_EQ" => Self::Eq,
            "SCMP_CMP_GE" => Self::Ge,
            "SCMP_CMP_GT" => Self::Gt,
            "SCMP_CMP_MASKED_EQ" => Self::MaskedEq,
            _ => return None,
        })
    }
}

/// One comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
    pub(super) value_two: u64,
}

/// What happens to one call, if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) action: Action,
    /// At most one per argument.
    pub(super) conditions: Vec<Condition>,
}

/// A whole profile for this machine and process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleSet {
    pub(super) default: Action,
    /// Without the native one, which always belongs to a filter.
    pub(super) architectures: Vec<Arch>,
    pub(super) rules: Vec<Rule>,
    /// SECCOMP_FILTER_FLAG_*
    pub(super) flags: u32,
    /// Who is asked, when there are rules that ask.
    pub(super) listener: Option<super::Listener>,
}
