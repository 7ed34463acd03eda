//! The compiled filters against a plain reading of the JSON, and against the kernel.

use super::bpf::*;
use super::{Arch, DEFAULT_PROFILE, Host, SockFilter, compile, compile_default, profile, program};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use wharf_spec::capability::{self, DOCKER_DEFAULT};
use wharf_spec::plan::Seccomp;

/// `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    audit: u32,
    args: [u64; 6],
}

/// What the kernel does with a filter (source: kernel/seccomp.c, `seccomp_check_filter`, and bpf(4)).
fn interpret(filter: &[SockFilter], call: &Call) -> u32 {
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let SockFilter { code, jt, jf, k } = filter[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            LD_W_ABS => a = word(call, k),
            ALU_AND_K => a &= k,
            JMP_JA => at += k as usize,
            JMP_JEQ_K => at += jump(a == k),
            JMP_JGT_K => at += jump(a > k),
            JMP_JGE_K => at += jump(a >= k),
            RET_K => return k,
            other => panic!("instruction {other:#x} is none that the compiler uses"),
        }
    }
}

fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        OFFSET_NUMBER => call.number,
        OFFSET_ARCH => call.audit,
        _ => {
            let byte = offset.checked_sub(OFFSET_ARGS).expect("only arguments beyond the architecture");
            assert!(byte.is_multiple_of(4));
            let value = call.args[byte as usize / 8];
            if byte.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 }
        }
    }
}

/// Names, action, conditions.
type RuleText = (Vec<String>, u32, Vec<Value>);
/// A rule's index, and what the first argument has to be inside `socketcall` and `ipc`.
type Mention = (usize, Option<u64>);

/// What the JSON says, read rule by rule and number by number; shares only the number table and the names
/// of capabilities with the compiler.
struct Oracle {
    default: u32,
    arches: Vec<Arch>,
    rules: Vec<RuleText>,
    /// The highest number that the rules name, by architecture.
    highest: Vec<(Arch, u32)>,
    /// Rules about a number, in their order.
    by_number: HashMap<(Arch, u32), Vec<Mention>>,
}

impl Oracle {
    fn new(json: &[u8], host: Host, caps: u64) -> Self {
        let profile: Value = serde_json::from_slice(json).unwrap();
        let action = |object: &Value, action: &str, errno: &str| {
            let errno = object[errno].as_u64().unwrap_or(1) as u32;
            match object[action].as_str().unwrap() {
                "SCMP_ACT_ALLOW" => 0x7fff0000,
                "SCMP_ACT_ERRNO" => 0x50000 + errno,
                "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
                "SCMP_ACT_KILL_PROCESS" => 0x80000000,
                "SCMP_ACT_TRAP" => 0x30000,
                "SCMP_ACT_TRACE" => 0x7ff00000 + errno,
                "SCMP_ACT_LOG" => 0x7ffc0000,
                other => panic!("{other}"),
            }
        };
        let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
        let arches = match list(&profile["archMap"]).iter().find(|e| e["architecture"] == host.arch.scmp()) {
            Some(entry) => {
                let subs = list(&entry["subArchitectures"]);
                subs.iter()
                    .map(|v| Arch::from_scmp(v.as_str().unwrap()).unwrap())
                    .chain([host.arch])
                    .collect()
            }
            None => vec![host.arch],
        };
        let rules: Vec<_> = list(&profile["syscalls"])
            .iter()
            .filter(|rule| applies(rule, &host, caps))
            .map(|rule| {
                let names = list(&rule["names"]).iter().map(|n| n.as_str().unwrap().to_owned()).collect();
                (names, action(rule, "action", "errnoRet"), list(&rule["args"]))
            })
            .collect();
        let default = action(&profile, "defaultAction", "defaultErrnoRet");
        let mut oracle = Self { default, arches, rules, highest: Vec::new(), by_number: HashMap::new() };
        oracle.index();
        oracle
    }

    /// Looks every name up once.
    fn index(&mut self) {
        for arch in self.arches.clone() {
            let mut highest = 0;
            for (at, (names, action, _)) in self.rules.iter().enumerate() {
                for name in names {
                    let mut note = |number, selector| {
                        if *action != self.default {
                            self.by_number.entry((arch, number)).or_default().push((at, selector));
                        }
                    };
                    if let Some(number) = arch.number(name) {
                        note(number, None);
                        highest = highest.max(number);
                    }
                    if let Some(carrier) = arch.carrier(name) {
                        note(arch.number(carrier.name).unwrap(), Some(carrier.selector));
                    }
                }
            }
            self.highest.push((arch, highest));
        }
    }

    fn arch_of(&self, call: &Call) -> Option<Arch> {
        let x32 = call.audit == Arch::X86_64.audit() && call.number & 0x4000_0000 != 0;
        self.arches.iter().copied().find(|a| a.audit() == call.audit && (*a == Arch::X32) == x32)
    }

    fn answer(&self, call: &Call) -> u32 {
        let Some(arch) = self.arch_of(call) else { return 0 };
        let highest = self.highest.iter().find(|(a, _)| *a == arch).unwrap().1;
        let refuses = !matches!(self.default >> 16, 0x7fff | 0x7ffc | 0x7ff0);
        if refuses && highest > 0 && call.number > highest { 0x50000 + 38 } else { self.decide(arch, call) }
    }

    fn decide(&self, arch: Arch, call: &Call) -> u32 {
        let mut conditional = None;
        let wide = matches!(arch, Arch::X86_64 | Arch::Aarch64);
        for (rule, selector) in self.by_number.get(&(arch, call.number)).into_iter().flatten() {
            let (_, action, args) = &self.rules[*rule];
            if selector.is_none() && args.is_empty() {
                return *action;
            }
            let holds = match selector {
                Some(selector) => call.args[0] as u32 == *selector as u32,
                None => args.iter().all(|c| condition_holds(c, call, wide)),
            };
            if holds && conditional.is_none() {
                conditional = Some(*action);
            }
        }
        conditional.unwrap_or(self.default)
    }

    /// Whether arguments matter for a number.
    fn looks_at_arguments(&self, arch: Arch, number: u32) -> bool {
        let rules = self.by_number.get(&(arch, number));
        rules
            .into_iter()
            .flatten()
            .any(|(rule, selector)| selector.is_some() || !self.rules[*rule].2.is_empty())
    }

    /// Argument values next to every value that a condition names.
    fn boundary_args(&self) -> Vec<[u64; 6]> {
        let mut values = BTreeSet::from([0, 1, u64::MAX, u64::from(u32::MAX), 1 << 32]);
        let conditions = self.rules.iter().flat_map(|(.., args)| args);
        let mut indexes = BTreeSet::new();
        for condition in conditions {
            indexes.insert(condition["index"].as_u64().unwrap() as usize);
            for key in ["value", "valueTwo"] {
                let v = condition[key].as_u64().unwrap_or(0);
                let near =
                    [v, v.wrapping_sub(1), v.wrapping_add(1), !v, v | 1 << 32, v.wrapping_add(1 << 32)];
                values.extend(near);
                values.extend(near.map(|v| v.wrapping_sub(1 << 32)));
                values.extend(
                    (0..64).filter(|bit| v >> bit & 1 == 1).flat_map(|bit| [1 << bit, v & !(1 << bit)]),
                );
            }
        }
        let mut all = vec![[0; 6]];
        for index in indexes {
            for value in &values {
                all.push([0; 6]);
                all.last_mut().unwrap()[index] = *value;
                all.push([*value; 6]);
            }
        }
        all
    }
}

fn applies(rule: &Value, host: &Host, caps: u64) -> bool {
    let texts = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().map(|t| t.as_str().unwrap().to_owned()).collect()
    };
    let has = |name: &String| capability::number(name).is_some_and(|bit| caps & (1 << bit) != 0);
    let arch_name = |name: &String| name == if host.arch == Arch::X86_64 { "amd64" } else { "arm64" };
    let newer = |v: &Value| {
        v.as_str().map(|text| {
            let (kernel, major) = text.split_once('.').unwrap();
            host.kernel >= (kernel.parse().unwrap(), major.parse().unwrap())
        })
    };
    let (inc, exc) = (&rule["includes"], &rule["excludes"]);
    let arches = texts(&inc["arches"]);
    (arches.is_empty() || arches.iter().any(arch_name))
        && texts(&inc["caps"]).iter().all(has)
        && newer(&inc["minKernel"]).unwrap_or(true)
        && !texts(&exc["arches"]).iter().any(arch_name)
        && !texts(&exc["caps"]).iter().any(has)
        && !newer(&exc["minKernel"]).unwrap_or(false)
}

fn condition_holds(condition: &Value, call: &Call, wide: bool) -> bool {
    let cut = |v: u64| if wide { v } else { v & 0xffff_ffff };
    let a = cut(call.args[condition["index"].as_u64().unwrap() as usize]);
    let v = cut(condition["value"].as_u64().unwrap_or(0));
    let two = cut(condition["valueTwo"].as_u64().unwrap_or(0));
    match condition["op"].as_str().unwrap() {
        "SCMP_CMP_EQ" => a == v,
        "SCMP_CMP_NE" => a != v,
        "SCMP_CMP_LT" => a < v,
        "SCMP_CMP_LE" => a <= v,
        "SCMP_CMP_GT" => a > v,
        "SCMP_CMP_GE" => a >= v,
        "SCMP_CMP_MASKED_EQ" => a & v == two & v,
        other => panic!("{other}"),
    }
}

/// Every number up to 600, the x32 range, and numbers next to every border.
fn numbers() -> impl Iterator<Item = u32> {
    let borders = [0x000f_0000, 0x000f_0006, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xc000_0000];
    (0..=600).chain(0x4000_0000..=0x4000_0000 + 600).chain(borders).chain([0x000f_0002, u32::MAX - 1])
}

/// Compiles `json` for `host` and compares it with the oracle wherever they could differ.
fn assert_same(json: &[u8], host: Host, caps: u64) -> usize {
    let rules = profile::docker(json, &host, caps).unwrap().unwrap();
    let filter = program::build(&rules, host.arch).unwrap().filter.clone();
    let oracle = Oracle::new(json, host, caps);
    let all_args = oracle.boundary_args();
    let mut compared = 0;
    for audit in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm].map(Arch::audit) {
        for number in numbers() {
            let arch = oracle.arch_of(&Call { number, audit, args: [0; 6] });
            let matters = arch.is_some_and(|arch| oracle.looks_at_arguments(arch, number));
            for args in all_args.iter().take(if matters { usize::MAX } else { 5 }) {
                let call = Call { number, audit, args: *args };
                let (got, want) = (interpret(&filter, &call), oracle.answer(&call));
                assert_eq!(got, want, "{call:x?} under {caps:x}: {got:x} instead of {want:x}");
                compared += 1;
            }
        }
    }
    compared
}

const X86_64_HOST: Host = Host { arch: Arch::X86_64, kernel: (6, 1) };
const ARM_HOST: Host = Host { arch: Arch::Aarch64, kernel: (6, 1) };

#[test]
fn the_default_filter_is_what_its_json_says() {
    for host in [X86_64_HOST, ARM_HOST, Host { kernel: (4, 7), ..X86_64_HOST }] {
        let compared = assert_same(DEFAULT_PROFILE, host, DOCKER_DEFAULT);
        assert!(compared > 25_000, "{compared} comparisons are too few");
    }
    assert_same(DEFAULT_PROFILE, X86_64_HOST, capability::ALL);
}

/// Every capability that the profile looks at, alone, on the bare evaluation of numbers.
#[test]
fn each_capability_opens_what_the_json_says() {
    for bit in 0..capability::NAMES.len() {
        let caps = 1 << bit;
        let rules = profile::docker(DEFAULT_PROFILE, &X86_64_HOST, caps).unwrap().unwrap();
        let filter = program::build(&rules, Arch::X86_64).unwrap().filter.clone();
        let oracle = Oracle::new(DEFAULT_PROFILE, X86_64_HOST, caps);
        for number in numbers() {
            let call = Call { number, audit: Arch::X86_64.audit(), args: [0; 6] };
            assert_eq!(interpret(&filter, &call), oracle.answer(&call), "{number} with {caps:x}");
        }
    }
}

#[test]
fn the_embedded_profile_compiles_for_any_capabilities() {
    for caps in (0..41).map(|bit| 1u64 << bit).chain([0, DOCKER_DEFAULT, capability::ALL, u64::MAX]) {
        let program = compile_default(caps);
        assert!(program.filter.len() < 1000, "{} instructions", program.filter.len());
        assert_eq!(program.flags, 4);
    }
}

#[test]
fn dockers_rules_are_there() {
    let filter = &compile_default(DOCKER_DEFAULT).filter;
    let answer = |arch: Arch, name: &str, args: [u64; 6]| {
        let number = arch.number(name).unwrap();
        interpret(filter, &Call { number, audit: arch.audit(), args })
    };
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x5_0001;
    const ENOSYS: u32 = 0x5_0026;
    let first = |value: u64| [value, 0, 0, 0, 0, 0];
    for (arch, name, args, want) in [
        (Arch::X86_64, "clone3", first(0), ENOSYS),
        (Arch::X86_64, "clone", first(0x11), ALLOW),
        (Arch::X86_64, "clone", first(0x1000_0000), EPERM), // CLONE_NEWUSER
        (Arch::X86_64, "mount", first(0), EPERM),
        (Arch::X86_64, "socket", first(2), ALLOW),
        (Arch::X86_64, "socket", first(38), EPERM), // AF_ALG
        (Arch::X86_64, "socket", first(40), EPERM), // AF_VSOCK
        (Arch::X86_64, "socket", first(38 | 1 << 32), ALLOW), // 64 bits are compared, as by libseccomp
        (Arch::X86, "socket", first(38), EPERM),
        (Arch::X32, "socket", first(38), EPERM),
        (Arch::X86, "socketcall", first(1), ALLOW),
        (Arch::X86_64, "keyctl", first(0), EPERM),
        (Arch::X86_64, "chroot", first(0), ALLOW), // CAP_SYS_CHROOT is a default
        (Arch::X86_64, "personality", first(0xffff_ffff), ALLOW),
        (Arch::X86_64, "personality", first(1), EPERM),
    ] {
        assert_eq!(answer(arch, name, args), want, "{arch:?} {name} {args:x?}");
    }
    let strange = interpret(filter, &Call { number: 0, audit: Arch::Arm.audit(), args: [0; 6] });
    assert_eq!(strange, 0, "an architecture that is not the host's kills");
}

/// Profiles made to meet the corners of the compiler.
#[test]
fn odd_profiles_are_what_their_json_says() {
    let op = |op: &str, value: u64, two: u64| {
        format!(
            r#"{{"names":["read","socket","semop","ipc"],"action":"SCMP_ACT_TRAP",
            "args":[{{"index":1,"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}}]}}"#
        )
    };
    let big = 0x1_0000_0005u64;
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRACE"] {
        for operator in ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"] {
            for (value, two) in [(0, 0), (5, 4), (big, 5), (u64::MAX, 7), (0xffff_ffff_0000_0000, 1 << 40)] {
                let json = format!(
                    r#"{{"defaultAction":"{default}","archMap":[{{"architecture":
                    "SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}}],
                    "syscalls":[{},{{"names":["close"],"action":"SCMP_ACT_LOG"}}]}}"#,
                    op(operator, value, two)
                );
                check_light(json.as_bytes());
            }
        }
    }
}

/// As `assert_same`, over fewer numbers.
fn check_light(json: &[u8]) {
    let rules = profile::docker(json, &X86_64_HOST, 0).unwrap().unwrap();
    let filter = program::build(&rules, Arch::X86_64).unwrap().filter.clone();
    let oracle = Oracle::new(json, X86_64_HOST, 0);
    let text = String::from_utf8_lossy(json);
    for args in oracle.boundary_args() {
        for arch in [Arch::X86_64, Arch::X86] {
            for number in [0, 3, 6, 41, 42, 64, 65, 66, 102, 117, 359, 360, 0x3fff_ffff] {
                // The selector of a carrier with a further condition is libseccomp's own oddity: see below.
                if arch == Arch::X86 && [102, 117].contains(&number) {
                    continue;
                }
                let call = Call { number, audit: arch.audit(), args };
                assert_eq!(interpret(&filter, &call), oracle.answer(&call), "{arch:?} {call:x?} of {text}");
            }
        }
    }
}

#[test]
fn precedence_is_libseccomps() {
    let json = br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]},
        {"names":["read"],"action":"SCMP_ACT_TRAP"},
        {"names":["read"],"action":"SCMP_ACT_ALLOW"},
        {"names":["write"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]},
        {"names":["write"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":8,"op":"SCMP_CMP_LT"}]},
        {"names":["close"],"action":"SCMP_ACT_ERRNO"},
        {"names":["close"],"action":"SCMP_ACT_ALLOW"},
        {"names":["open"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"names":["stat"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#;
    let rules = profile::docker(json, &X86_64_HOST, 0).unwrap().unwrap();
    let filter = program::build(&rules, Arch::X86_64).unwrap().filter.clone();
    let answer = |number: u32, a: u64, b: u64| {
        interpret(&filter, &Call { number, audit: Arch::X86_64.audit(), args: [a, b, 0, 0, 0, 0] })
    };
    assert_eq!(answer(0, 7, 0), 0x30000, "an unconditional rule beats conditional ones, the first others");
    assert_eq!(answer(1, 7, 0), 0x7ffc_0000, "the first condition that holds");
    assert_eq!(answer(1, 6, 0), 0x30000);
    assert_eq!(answer(1, 8, 0), 0x50001);
    assert_eq!(answer(3, 0, 0), 0x7fff_0000, "a rule that is the default is left out");
    assert_eq!(
        (answer(2, 1, 0), answer(2, 2, 0), answer(2, 3, 0)),
        (0x7fff_0000, 0x7fff_0000, 0x50001),
        "or"
    );
    assert_eq!((answer(4, 1, 2), answer(4, 1, 0)), (0x7fff_0000, 0x50001), "and");
    assert_eq!(answer(5, 0, 0), 0x50026, "beyond the highest number of the profile");
    assert_eq!(answer(0x4000_0000, 0, 0), 0, "x32 is not in the profile");
    assert_eq!(answer(u32::MAX, 0, 0), 0x50001, "a call that a tracer skips does not kill");
}

/// Far targets: a profile with so many different conditions that jumps need stepping stones.
#[test]
fn long_profiles_are_laid_out_and_too_long_ones_refused() {
    let profile_of = |calls: u32| {
        let rules: Vec<_> = (0..calls)
            .map(|n| {
                let name = super::syscalls::TABLE[n as usize % 400].0;
                format!(
                    r#"{{"names":["{name}"],"action":"SCMP_ACT_ALLOW","args":[
                    {{"index":0,"value":{},"op":"SCMP_CMP_EQ"}}]}}"#,
                    n * 7 + 1
                )
            })
            .collect();
        format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(","))
    };
    let json = profile_of(500);
    let rules = profile::docker(json.as_bytes(), &X86_64_HOST, 0).unwrap().unwrap();
    let filter = program::build(&rules, Arch::X86_64).unwrap().filter.clone();
    assert!(filter.len() > 1000 && filter.iter().any(|i| i.code == RET_K), "{}", filter.len());
    let oracle = Oracle::new(json.as_bytes(), X86_64_HOST, 0);
    for number in 0..500 {
        for value in (0..500).map(|n| n * 7 + 1).filter(|v| (v / 7) % 13 == 0).chain([0]) {
            let call = Call { number, audit: Arch::X86_64.audit(), args: [value, 0, 0, 0, 0, 0] };
            assert_eq!(interpret(&filter, &call), oracle.answer(&call), "{number} {value}");
        }
    }
    let json = profile_of(5000);
    let error = compile(&Seccomp::Docker(json.into_bytes()), 0).unwrap_err();
    assert_eq!(error.to_string(), "seccomp filter of more than 4096 instructions");
}

#[test]
fn somebody_is_notified_or_nothing_is_asked() {
    let json = br#"{"defaultAction":"SCMP_ACT_ALLOW",
        "syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    for wanted in [Seccomp::Docker(json.to_vec()), Seccomp::Oci(json.to_vec())] {
        let error = compile(&wanted, 0).unwrap_err().to_string();
        assert!(error.contains("listenerPath is not set"), "{error}");
    }
    let json = br#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x","listenerMetadata":"m",
        "syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    let listener = compile(&Seccomp::Oci(json.to_vec()), 0).unwrap().unwrap().listener.clone();
    assert_eq!(listener, Some(super::Listener { path: "/run/x".into(), metadata: "m".into() }));
    let unused = br#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}"#;
    assert_eq!(compile(&Seccomp::Oci(unused.to_vec()), 0).unwrap().unwrap().listener, None);
    let rules = profile::oci(json).unwrap().unwrap();
    let filter = &program::build(&rules, Arch::X86_64).unwrap().filter;
    let mount = Call { number: 165, audit: Arch::X86_64.audit(), args: [0; 6] };
    assert_eq!(interpret(filter, &mount), 0x7fc0_0000);
}

#[test]
fn a_graph_of_any_depth_is_laid_out() {
    let mut graph = Graph::default();
    let (mut node, far) = (graph.ret(1), graph.ret(2));
    for k in 0..4000 {
        node = graph.branch(Test::Eq, k, far, node);
    }
    let filter = graph.assemble(node).unwrap();
    let run = |number| interpret(&filter, &Call { number, audit: 0, args: [0; 6] });
    assert_eq!(run(0), 2, "the accumulator starts at 0, which one comparison meets");
    assert!(filter.len() > 4000 && filter.len() <= 4096, "{}", filter.len());
}

/// The kernel takes the filter, and a thread under it meets the answers. Without TSYNC the filter is that
/// thread's alone, so that the test itself stays free.
#[test]
fn the_kernel_obeys_the_default_filter() {
    let program = compile_default(DOCKER_DEFAULT);
    let under_filter = std::thread::spawn(move || {
        wharf_sys::seccomp::install(&program.filter, program.flags).unwrap();
        let unmount = rustix::mount::unmount("/no/such/mount", rustix::mount::UnmountFlags::empty());
        let alg = rustix::net::socket(
            rustix::net::AddressFamily::from_raw(38),
            rustix::net::SocketType::SEQPACKET,
            None,
        );
        let plain =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
        let fresh = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::empty());
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        (unmount, alg.map(drop), plain.map(drop), fresh.map(drop), status)
    });
    let (unmount, alg, plain, fsopen, status) = under_filter.join().unwrap();
    assert_eq!(unmount, Err(rustix::io::Errno::PERM));
    assert_eq!(alg, Err(rustix::io::Errno::PERM));
    assert_eq!(plain, Ok(()));
    assert_eq!(fsopen, Err(rustix::io::Errno::PERM));
    assert!(status.lines().any(|line| line == "Seccomp:\t2"), "{status}");
    let outside = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(outside.lines().any(|line| line == "Seccomp:\t0"), "{outside}");
}
