//! Classic BPF for seccomp: a graph of decisions, laid out as instructions.
//!
//! Nodes are shared when equal, so a graph is as small as the decisions allow. Layout goes from the end to
//! the start: every jump's target is already placed, jumps only go forward (as the kernel demands), and a
//! target too far for a conditional jump's 8 bits gets a stepping stone close by.

use super::{MAX_INSTRUCTIONS, SeccompError};
use std::collections::HashMap;

pub use wharf_sys::seccomp::SockFilter;

/// Offsets in `struct seccomp_data` (source: linux/seccomp.h), little-endian.
pub(super) const OFFSET_NUMBER: u32 = 0;
pub(super) const OFFSET_ARCH: u32 = 4;
pub(super) const OFFSET_ARGS: u32 = 16;

// Instruction codes (source: linux/bpf_common.h).
pub(super) const LD_W_ABS: u16 = 0x20;
pub(super) const ALU_AND_K: u16 = 0x54;
pub(super) const JMP_JA: u16 = 0x05;
pub(super) const JMP_JEQ_K: u16 = 0x15;
pub(super) const JMP_JGT_K: u16 = 0x25;
pub(super) const JMP_JGE_K: u16 = 0x35;
pub(super) const RET_K: u16 = 0x06;

/// How a node compares the accumulator with its constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Test {
    Eq,
    Gt,
    Ge,
}

/// A node of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    Return(u32),
    Load { offset: u32, next: Id },
    And { mask: u32, next: Id },
    Branch { test: Test, k: u32, yes: Id, no: Id },
}

/// Decisions, each made of earlier ones: there are no cycles.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    known: HashMap<Node, Id>,
}

impl Graph {
    pub(super) fn ret(&mut self, value: u32) -> Id {
        self.add(Node::Return(value))
    }

    pub(super) fn load(&mut self, offset: u32, next: Id) -> Id {
        self.add(Node::Load { offset, next })
    }

    pub(super) fn and(&mut self, mask: u32, next: Id) -> Id {
        self.add(Node::And { mask, next })
    }

    pub(super) fn branch(&mut self, test: Test, k: u32, yes: Id, no: Id) -> Id {
        if yes == no { yes } else { self.add(Node::Branch { test, k, yes, no }) }
    }

    fn add(&mut self, node: Node) -> Id {
        if let Some(id) = self.known.get(&node) {
            return *id;
        }
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(node);
        self.known.insert(node, id);
        id
    }

    /// The instructions that decide as the graph does from `root` on.
    ///
    /// # Errors
    /// [`SeccompError::TooLong`]
    pub(super) fn assemble(&self, root: Id) -> Result<Vec<SockFilter>, SeccompError> {
        let mut layout = Layout { graph: self, reversed: Vec::new(), placed: HashMap::new() };
        let mut pending = vec![(root, false)];
        // Depth first without recursion: a profile decides how deep it goes.
        while let Some((id, children_done)) = pending.pop() {
            if layout.placed.contains_key(&id) {
                continue;
            }
            if children_done {
                layout.place(id)?;
                continue;
            }
            pending.push((id, true));
            match self.node(id) {
                Node::Return(_) => {}
                Node::Load { next, .. } | Node::And { next, .. } => pending.push((next, false)),
                Node::Branch { yes, no, .. } => pending.extend([(no, false), (yes, false)]),
            }
        }
        layout.finish(root)
    }

    fn node(&self, id: Id) -> Node {
        self.nodes[id.0 as usize]
    }
}

/// Instructions from the last to the first.
struct Layout<'a> {
    graph: &'a Graph,
    reversed: Vec<SockFilter>,
    /// Where in `reversed` a node's first instruction is (the latest copy).
    placed: HashMap<Id, usize>,
}

impl Layout<'_> {
    fn place(&mut self, id: Id) -> Result<(), SeccompError> {
        match self.graph.node(id) {
            Node::Return(k) => self.push(id, RET_K, (0, 0), k),
            Node::Load { offset, next } => {
                self.bring_next(next)?;
                self.push(id, LD_W_ABS, (0, 0), offset)
            }
            Node::And { mask, next } => {
                self.bring_next(next)?;
                self.push(id, ALU_AND_K, (0, 0), mask)
            }
            Node::Branch { test, k, yes, no } => {
                let jumps = self.bring_near(yes, no)?;
                let code = match test {
                    Test::Eq => JMP_JEQ_K,
                    Test::Gt => JMP_JGT_K,
                    Test::Ge => JMP_JGE_K,
                };
                self.push(id, code, jumps, k)
            }
        }
    }

    fn push(&mut self, id: Id, code: u16, (jt, jf): (u8, u8), k: u32) -> Result<(), SeccompError> {
        if self.reversed.len() == MAX_INSTRUCTIONS {
            return Err(SeccompError::TooLong);
        }
        self.placed.insert(id, self.reversed.len());
        self.reversed.push(SockFilter { code, jt, jf, k });
        Ok(())
    }

    /// How many instructions a jump placed next has to leave out to reach `target`.
    fn distance(&self, target: Id) -> usize {
        self.reversed.len() - self.placed[&target] - 1
    }

    /// Makes sure that what is placed next runs on into `target`.
    fn bring_next(&mut self, target: Id) -> Result<(), SeccompError> {
        if self.distance(target) > 0 { self.stepping_stone(target) } else { Ok(()) }
    }

    /// Makes sure that both targets are in reach of a conditional jump placed next. A stone for one may push
    /// the other out of reach, then that one gets its stone; after two rounds both are near.
    fn bring_near(&mut self, yes: Id, no: Id) -> Result<(u8, u8), SeccompError> {
        loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(jt), Ok(jf)) => return Ok((jt, jf)),
                (Err(_), _) => self.stepping_stone(yes)?,
                (_, Err(_)) => self.stepping_stone(no)?,
            }
        }
    }

    /// A copy of a return, or an unconditional jump to anything else.
    fn stepping_stone(&mut self, target: Id) -> Result<(), SeccompError> {
        match self.graph.node(target) {
            Node::Return(k) => self.push(target, RET_K, (0, 0), k),
            _ => self.push(target, JMP_JA, (0, 0), self.distance(target) as u32),
        }
    }

    fn finish(mut self, root: Id) -> Result<Vec<SockFilter>, SeccompError> {
        self.bring_next(root)?;
        self.reversed.reverse();
        Ok(self.reversed)
    }
}
