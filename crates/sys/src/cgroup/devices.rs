//! Device rules: as text for v1, as an eBPF program for v2.
//!
//! v1 keeps a default (allow or deny everything) and a list of exceptions; the same is computed here for v2
//! and compiled into a program of kind BPF_PROG_TYPE_CGROUP_DEVICE (source: cgroup-v1/devices.rst; bpf(2);
//! opencontainers/cgroups `devices/`).

use crate::raw::{check, own};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use wharf_spec::plan::{DeviceKind, DeviceRule};

/// A rule in the words of `devices.allow`: `c 1:3 rwm`.
pub(super) fn rule_text(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        None => return "a".to_owned(),
        Some(DeviceKind::Char | DeviceKind::Fifo) => 'c',
        Some(DeviceKind::Block) => 'b',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')];
    let access: String = letters.iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

/// BPF_DEVCG_ACC_*
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
/// BPF_DEVCG_DEV_*
const BLOCK: u32 = 1;
const CHAR: u32 = 2;

/// What the rules come to: a default and exceptions from it.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    allow_by_default: bool,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exception {
    kind: u32,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

impl Policy {
    /// Carries out the rules one after the other, as the v1 controller does.
    fn from_rules(rules: &[DeviceRule]) -> Policy {
        let mut policy = Policy { allow_by_default: false, exceptions: Vec::new() };
        for rule in rules {
            let kind = match rule.kind {
                None => {
                    policy = Policy { allow_by_default: rule.allow, exceptions: Vec::new() };
                    continue;
                }
                Some(DeviceKind::Block) => BLOCK,
                Some(DeviceKind::Char | DeviceKind::Fifo) => CHAR,
            };
            let access = [(rule.read, READ), (rule.write, WRITE), (rule.mknod, MKNOD)];
            let access = access.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
            let exception = Exception { kind, major: rule.major, minor: rule.minor, access };
            match rule.allow == policy.allow_by_default {
                true => policy.remove(exception),
                false => policy.add(exception),
            }
        }
        policy
    }

    fn same_device(one: &Exception, other: &Exception) -> bool {
        (one.kind, one.major, one.minor) == (other.kind, other.major, other.minor)
    }

    fn add(&mut self, new: Exception) {
        match self.exceptions.iter_mut().find(|known| Self::same_device(known, &new)) {
            Some(known) => known.access |= new.access,
            None => self.exceptions.push(new),
        }
    }

    fn remove(&mut self, gone: Exception) {
        for known in self.exceptions.iter_mut().filter(|known| Self::same_device(known, &gone)) {
            known.access &= !gone.access;
        }
        self.exceptions.retain(|known| known.access != 0);
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Operation codes (linux/bpf_common.h, linux/bpf.h).
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const AND_IMMEDIATE: u8 = 0x57;
const RIGHT_SHIFT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, immediate }
}

/// The program. Context: `access_type` (access in the high 16 bits, kind in the low), `major`, `minor`.
fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut program = vec![
        // r2 = kind, r3 = access, r4 = major, r5 = minor
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(RIGHT_SHIFT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for exception in &policy.exceptions {
        program.extend(compile_exception(exception, policy.allow_by_default));
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, policy.allow_by_default.into()));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// Tests one exception; falls through to the next when it does not apply.
fn compile_exception(exception: &Exception, allow_by_default: bool) -> Vec<Instruction> {
    let mut tests = vec![instruction(JUMP_NOT_EQUAL, 2, 0, 0, exception.kind as i32)];
    // r1 is not the context any more.
    tests.push(instruction(MOVE_REGISTER, 1, 3, 0, 0));
    tests.push(instruction(AND_IMMEDIATE, 1, 0, 0, exception.access as i32));
    match allow_by_default {
        // Denied when any of the denied kinds of access is wanted.
        true => tests.push(instruction(JUMP_EQUAL, 1, 0, 0, 0)),
        // Allowed when nothing else than the allowed kinds is wanted.
        false => tests.push(instruction(JUMP_NOT_EQUAL_REGISTER, 1, 3, 0, 0)),
    }
    if let Some(major) = exception.major {
        tests.push(instruction(JUMP_NOT_EQUAL, 4, 0, 0, major as i32));
    }
    if let Some(minor) = exception.minor {
        tests.push(instruction(JUMP_NOT_EQUAL, 5, 0, 0, minor as i32));
    }
    tests.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, (!allow_by_default).into()));
    tests.push(instruction(EXIT, 0, 0, 0, 0));
    let end = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        if [JUMP_NOT_EQUAL, JUMP_EQUAL, JUMP_NOT_EQUAL_REGISTER].contains(&test.code) {
            test.offset = (end - index - 1) as i16;
        }
    }
    tests
}

/// BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI, BPF_F_REPLACE
const PROGRAM_TYPE: u32 = 15;
const ATTACH_TYPE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;
/// Commands of bpf(2).
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

/// The part of `union bpf_attr` that BPF_PROG_LOAD reads.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The part that BPF_PROG_ATTACH and BPF_PROG_DETACH read.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The part that BPF_PROG_QUERY reads and writes.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The part that BPF_PROG_GET_FD_BY_ID reads.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// bpf(2) with a live attribute struct.
fn bpf<A>(command: libc::c_int, attr: &mut A) -> Result<libc::c_long, Errno> {
    // SAFETY: the kernel reads and writes within the struct's size; the pointers in it are live at all
    // callers.
    let value = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    check(value)
}

/// Puts a group under these rules, in place of those it was under before.
pub(super) fn attach(group: &OwnedFd, rules: &[DeviceRule]) -> Result<(), Errno> {
    let program = load(&compile(&Policy::from_rules(rules)))?;
    let old = attached(group)?;
    let mut attr = AttachAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE,
        attach_flags: ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    if let [only] = old.as_slice() {
        attr.attach_flags |= REPLACE;
        attr.replace_bpf_fd = only.as_fd().as_raw_fd() as u32;
        return bpf(PROG_ATTACH, &mut attr).map(drop);
    }
    bpf(PROG_ATTACH, &mut attr)?;
    for program in old {
        let mut attr = AttachAttr {
            target_fd: group.as_raw_fd() as u32,
            attach_bpf_fd: program.as_raw_fd() as u32,
            attach_type: ATTACH_TYPE,
            ..AttachAttr::default()
        };
        bpf(PROG_DETACH, &mut attr)?;
    }
    Ok(())
}

fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let mut attr = LoadAttr {
        prog_type: PROGRAM_TYPE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        ..LoadAttr::default()
    };
    bpf(PROG_LOAD, &mut attr).and_then(own)
}

/// The device programs that are attached to a group now.
fn attached(group: &OwnedFd) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; 64];
    let mut attr = QueryAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..QueryAttr::default()
    };
    bpf(PROG_QUERY, &mut attr)?;
    let count = (attr.prog_cnt as usize).min(ids.len());
    let by_id = |id: &u32| bpf(PROG_GET_FD_BY_ID, &mut IdAttr { id: *id, ..IdAttr::default() }).and_then(own);
    ids[..count].iter().map(by_id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> DeviceRule {
        let (allow, rest) = (text.starts_with('+'), &text[1..]);
        let mut words = rest.split(' ');
        let kind = match words.next().unwrap() {
            "a" => None,
            "c" => Some(DeviceKind::Char),
            _ => Some(DeviceKind::Block),
        };
        let (major, minor) = words.next().unwrap_or("*:*").split_once(':').unwrap();
        let access = words.next().unwrap_or("rwm");
        let has = |letter: char| access.contains(letter);
        DeviceRule {
            allow,
            kind,
            major: major.parse().ok(),
            minor: minor.parse().ok(),
            read: has('r'),
            write: has('w'),
            mknod: has('m'),
        }
    }

    /// Runs a program as the kernel would, for the operations used here.
    fn interpret(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let Instruction { code, registers: names, offset, immediate } = program[at];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            let jump = |condition: bool| if condition { offset as usize } else { 0 };
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4].into(),
                MOVE_REGISTER => registers[to] = registers[from],
                MOVE_IMMEDIATE => registers[to] = immediate as u64,
                AND_IMMEDIATE => registers[to] &= immediate as u64,
                RIGHT_SHIFT => registers[to] >>= immediate,
                JUMP_EQUAL => at += jump(registers[to] == immediate as u64),
                JUMP_NOT_EQUAL => at += jump(registers[to] != immediate as u64),
                JUMP_NOT_EQUAL_REGISTER => at += jump(registers[to] != registers[from]),
                EXIT => return registers[0] == 1,
                other => panic!("operation {other:x}"),
            }
        }
    }

    #[test]
    fn text_is_what_v1_reads() {
        assert_eq!(rule_text(&rule("-a")), "a");
        assert_eq!(rule_text(&rule("+c 1:3 rwm")), "c 1:3 rwm");
        assert_eq!(rule_text(&rule("+b *:* m")), "b *:* m");
    }

    #[test]
    fn deny_list_and_allow_list() {
        let rules = ["-a", "+c *:* m", "+c 1:3 r", "+c 1:3 w", "+c 5:* rwm", "-c 5:* w"].map(rule);
        let program = compile(&Policy::from_rules(&rules));
        assert!(interpret(&program, CHAR, READ | WRITE, 1, 3));
        assert!(interpret(&program, CHAR, MKNOD, 200, 7));
        assert!(!interpret(&program, CHAR, READ, 1, 4));
        assert!(!interpret(&program, BLOCK, MKNOD, 8, 0));
        assert!(interpret(&program, CHAR, READ, 5, 9));
        assert!(!interpret(&program, CHAR, WRITE, 5, 9));
        let program = compile(&Policy::from_rules(&["+a", "-b 8:0 w"].map(rule)));
        assert!(interpret(&program, BLOCK, READ, 8, 0));
        assert!(!interpret(&program, BLOCK, READ | WRITE, 8, 0));
        assert!(interpret(&program, CHAR, READ | WRITE | MKNOD, 8, 0));
    }
}
