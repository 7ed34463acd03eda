//! From rules to verdicts: what each number of each architecture gets, in libseccomp's semantics.
//!
//! * For one number, an unconditional rule beats conditional ones, and the first unconditional one beats
//!   later ones; of conditional ones the first that matches counts; else the default.
//! * A rule whose action is the default's is left out (runc), so it beats nothing.
//! * A number above the highest that the profile names on its architecture gets ENOSYS instead of the
//!   default, so that programs fall back from calls that are newer than the profile (runc
//!   `libcontainer/seccomp/patchbpf`).
//! * i386 socket and System V IPC rules hold for the direct calls and for those inside `socketcall` and
//!   `ipc`.
//! * A call of an architecture that the filter does not cover kills the thread.

use super::arch::{Arch, Width, X32_BIT};
use super::rules::{Action, Condition, Operator, Rule, RuleSet};
use std::collections::BTreeMap;

/// What happens to one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Always this.
    Always(Action),
    /// The first case whose conditions all hold, else the default.
    Cases(Vec<Case>, Width),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// The numbers of one value of `seccomp_data.arch`.
#[derive(Debug)]
pub(super) struct Section {
    /// AUDIT_ARCH_*
    pub(super) audit: u32,
    /// Numbers with a verdict of their own.
    pub(super) named: BTreeMap<u32, Verdict>,
    /// What all others get: from each number on, up to the next entry's. The first is 0.
    pub(super) others: Vec<(u32, Action)>,
}

/// One section per architecture of the filter, the native one first; x32 is a part of x86_64's.
pub(super) fn sections(rules: &RuleSet, native: Arch) -> Vec<Section> {
    let mut covered = vec![native];
    for arch in &rules.architectures {
        if !covered.contains(arch) {
            covered.push(*arch);
        }
    }
    let stand_alone = covered.iter().filter(|arch| **arch != Arch::X32 || !covered.contains(&Arch::X86_64));
    stand_alone
        .map(|arch| match arch {
            Arch::X86_64 => x86_64_section(rules, covered.contains(&Arch::X32)),
            _ => section(rules, *arch),
        })
        .collect()
}

fn section(rules: &RuleSet, arch: Arch) -> Section {
    let mut others = vec![(0, rules.default)];
    if let Some(first_unknown) = first_unknown(rules, arch) {
        others.push((first_unknown, Action::ENOSYS));
    }
    Section { audit: arch.audit(), named: named(rules, arch), others }
}

/// x86_64's numbers and, with bit 30 set, x32's. Without x32 in the profile such numbers kill, but for the
/// -1 that a tracer sets to skip a call (libseccomp `gen_bpf.c`).
fn x86_64_section(rules: &RuleSet, with_x32: bool) -> Section {
    let mut named_numbers = named(rules, Arch::X86_64);
    let unknown = first_unknown(rules, Arch::X86_64);
    let beyond = if unknown.is_some() { Action::ENOSYS } else { rules.default };
    let mut others = vec![(0, rules.default)];
    others.extend(unknown.map(|first| (first, Action::ENOSYS)));
    if with_x32 {
        named_numbers.extend(named(rules, Arch::X32));
        let unknown = first_unknown(rules, Arch::X32);
        others.push((X32_BIT, rules.default));
        others.extend(unknown.map(|first| (first, Action::ENOSYS)));
        // Bit 31 alone is x86_64 again, bits 30 and 31 are x32.
        others.push((0x8000_0000, beyond));
        let beyond_x32 = if unknown.is_some() { Action::ENOSYS } else { rules.default };
        others.push((0xc000_0000, beyond_x32));
    } else {
        others.push((X32_BIT, Action::KILL_THREAD));
        // runc's stub comes first and sees bit 31 without bit 30 as a large x86_64 number.
        let bit_31 = if unknown.is_some() { Action::ENOSYS } else { Action::KILL_THREAD };
        others.extend([(0x8000_0000, bit_31), (0xc000_0000, Action::KILL_THREAD), (u32::MAX, rules.default)]);
    }
    Section { audit: Arch::X86_64.audit(), named: named_numbers, others }
}

/// The number after the highest that the profile names, where unknown calls are to get ENOSYS.
fn first_unknown(rules: &RuleSet, arch: Arch) -> Option<u32> {
    if rules.default.lets_unknown_calls_through() || rules.default == Action::ENOSYS {
        return None;
    }
    let highest = rules.rules.iter().filter_map(|rule| arch.number(&rule.name)).max()?;
    (highest > 0).then_some(highest + 1)
}

fn named(rules: &RuleSet, arch: Arch) -> BTreeMap<u32, Verdict> {
    let mut verdicts = BTreeMap::new();
    for rule in rules.rules.iter().filter(|rule| rule.action != rules.default) {
        for (number, conditions) in places(rule, arch) {
            add(&mut verdicts, number, Case { conditions, action: rule.action }, arch.width());
        }
    }
    verdicts
}

/// The numbers a rule is about: the call itself, and the call that carries it.
fn places(rule: &Rule, arch: Arch) -> Vec<(u32, Vec<Condition>)> {
    let mut places = Vec::new();
    if let Some(number) = arch.number(&rule.name) {
        places.push((number, rule.conditions.clone()));
    }
    let carrier = arch.carrier(&rule.name);
    if let Some((carrier, number)) = carrier.and_then(|c| Some((arch.number(c.name)?, c.selector))) {
        // As in libseccomp: the selector takes the place of a condition on the first argument, the other
        // conditions stay although they now compare the carrier's arguments.
        let mut conditions: Vec<_> = rule.conditions.iter().filter(|c| c.index != 0).copied().collect();
        conditions.push(Condition { index: 0, operator: Operator::Eq, value: number, value_two: 0 });
        places.push((carrier, conditions));
    }
    places
}

fn add(verdicts: &mut BTreeMap<u32, Verdict>, number: u32, mut case: Case, width: Width) {
    case.conditions.retain(|condition| !always_true(condition, width));
    let unconditional = case.conditions.is_empty();
    match verdicts.get_mut(&number) {
        Some(Verdict::Always(_)) => {}
        Some(Verdict::Cases(cases, _)) if !unconditional => cases.push(case),
        _ if unconditional => {
            verdicts.insert(number, Verdict::Always(case.action));
        }
        _ => {
            verdicts.insert(number, Verdict::Cases(vec![case], width));
        }
    }
}

/// A masked comparison that looks at no bit of the argument.
fn always_true(condition: &Condition, width: Width) -> bool {
    let seen = match width {
        Width::Bits32 => condition.value & 0xffff_ffff,
        Width::Bits64 => condition.value,
    };
    condition.operator == Operator::MaskedEq && seen == 0
}
