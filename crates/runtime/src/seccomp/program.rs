//! From verdicts to a program: which architecture, then a balanced tree over the numbers, then arguments.

use super::arch::{Arch, Width};
use super::bpf::{Graph, Id, OFFSET_ARCH, OFFSET_ARGS, OFFSET_NUMBER, Test};
use super::lower::{Case, Section, Verdict, sections};
use super::rules::{Action, Condition, Operator, RuleSet};
use super::{Program, SeccompError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Compiles rules for a host of the `native` architecture.
pub(super) fn build(rules: &RuleSet, native: Arch) -> Result<Arc<Program>, SeccompError> {
    let mut graph = Graph::default();
    let mut root = graph.ret(Action::KILL_THREAD.0);
    for section in sections(rules, native).iter().rev() {
        let tree = section_tree(&mut graph, section, rules.default);
        let enter = graph.load(OFFSET_NUMBER, tree);
        root = graph.branch(Test::Eq, section.audit, enter, root);
    }
    root = graph.load(OFFSET_ARCH, root);
    let filter = graph.assemble(root)?;
    Ok(Arc::new(Program { filter, flags: rules.flags, listener: rules.listener.clone() }))
}

/// Decides by the number, which is in the accumulator.
fn section_tree(graph: &mut Graph, section: &Section, default: Action) -> Id {
    let ranges = ranges(graph, section, default);
    tree(graph, &ranges)
}

/// From each number on, what happens; neighbours differ, the first starts at 0.
fn ranges(graph: &mut Graph, section: &Section, default: Action) -> Vec<(u32, Id)> {
    let mut starts = BTreeMap::new();
    for (start, action) in &section.others {
        starts.insert(*start, graph.ret(action.0));
    }
    for after in section.named.keys().filter_map(|number| number.checked_add(1)) {
        starts.insert(after, graph.ret(other_at(section, after).0));
    }
    for (number, verdict) in &section.named {
        starts.insert(*number, verdict_node(graph, verdict, default));
    }
    let mut ranges: Vec<(u32, Id)> = starts.into_iter().collect();
    ranges.dedup_by_key(|(_, node)| *node);
    ranges
}

fn other_at(section: &Section, number: u32) -> Action {
    let at = section.others.partition_point(|(start, _)| *start <= number);
    section.others[at - 1].1
}

/// A tree whose leaves are the ranges, as deep as the logarithm of their number.
fn tree(graph: &mut Graph, ranges: &[(u32, Id)]) -> Id {
    match ranges {
        [(_, only)] => *only,
        // One number that differs from its surroundings: one comparison instead of two.
        [(_, before), (one, node), (after, same)] if before == same && *after - *one == 1 => {
            graph.branch(Test::Eq, *one, *node, *before)
        }
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let pivot = high[0].0;
            let (low, high) = (tree(graph, low), tree(graph, high));
            graph.branch(Test::Ge, pivot, high, low)
        }
    }
}

fn verdict_node(graph: &mut Graph, verdict: &Verdict, default: Action) -> Id {
    match verdict {
        Verdict::Always(action) => graph.ret(action.0),
        Verdict::Cases(cases, width) => {
            let otherwise = graph.ret(default.0);
            cases.iter().rev().fold(otherwise, |next, case| case_node(graph, case, *width, next))
        }
    }
}

fn case_node(graph: &mut Graph, case: &Case, width: Width, otherwise: Id) -> Id {
    let matched = graph.ret(case.action.0);
    let conditions = case.conditions.iter().rev();
    conditions.fold(matched, |next, condition| condition_node(graph, condition, width, next, otherwise))
}

/// Continues at `yes` when the condition holds, else at `no`.
fn condition_node(graph: &mut Graph, condition: &Condition, width: Width, yes: Id, no: Id) -> Id {
    let argument = Argument { offset: OFFSET_ARGS + 8 * u32::from(condition.index), width };
    let value = condition.value;
    match condition.operator {
        Operator::Eq => argument.masked_eq(graph, (u64::MAX, value), yes, no),
        Operator::Ne => argument.masked_eq(graph, (u64::MAX, value), no, yes),
        Operator::MaskedEq => argument.masked_eq(graph, (value, condition.value_two & value), yes, no),
        Operator::Gt => argument.more_than(graph, (Test::Gt, value), yes, no),
        Operator::Ge => argument.more_than(graph, (Test::Ge, value), yes, no),
        Operator::Le => argument.more_than(graph, (Test::Gt, value), no, yes),
        Operator::Lt => argument.more_than(graph, (Test::Ge, value), no, yes),
    }
}

/// A 64-bit argument, compared half by half, the upper half first.
struct Argument {
    offset: u32,
    width: Width,
}

impl Argument {
    /// `argument & mask == value`; halves that the mask leaves out are not looked at.
    fn masked_eq(&self, graph: &mut Graph, (mask, value): (u64, u64), yes: Id, no: Id) -> Id {
        let low = half_eq(graph, (self.offset, mask as u32, value as u32), yes, no);
        match self.width {
            Width::Bits32 => low,
            Width::Bits64 => {
                half_eq(graph, (self.offset + 4, (mask >> 32) as u32, (value >> 32) as u32), low, no)
            }
        }
    }

    /// `argument > value` or `argument >= value`.
    fn more_than(&self, graph: &mut Graph, (test, value): (Test, u64), yes: Id, no: Id) -> Id {
        let low = graph.branch(test, value as u32, yes, no);
        let low = graph.load(self.offset, low);
        match self.width {
            Width::Bits32 => low,
            Width::Bits64 => {
                let high = (value >> 32) as u32;
                let equal = graph.branch(Test::Eq, high, low, no);
                let more = graph.branch(Test::Gt, high, yes, equal);
                graph.load(self.offset + 4, more)
            }
        }
    }
}

fn half_eq(graph: &mut Graph, (offset, mask, value): (u32, u32, u32), yes: Id, no: Id) -> Id {
    if mask == 0 {
        return yes;
    }
    let compare = graph.branch(Test::Eq, value, yes, no);
    let compare = if mask == u32::MAX { compare } else { graph.and(mask, compare) };
    graph.load(offset, compare)
}
