//! `cargo xtask vm-test`: the end-to-end tests on Debian's 6.1 kernel with cgroup v2.
//!
//! qemu (TCG: no KVM is needed) boots Debian's cloud kernel with an initramfs that holds our programs, the
//! tests, busybox, nft, iptables and the stock CLI. Its init moves everything to a tmpfs, since pivot_root(2)
//! refuses to leave an initramfs, mounts cgroup v2, runs the tests and powers off; the last line on the serial
//! console says how they went. Without a filter the tests of the crates that talk to the kernel run as well.
//! Then its init becomes systemd, under which those run that need it.

mod qemu;

use crate::{build, packages, sh};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the tests need that Debian's cloud kernel has as modules, with all they depend on.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "overlay",
    "loop",
    "quota_v2",
    "bridge",
    "br_netfilter",
    "veth",
    "macvlan",
    "tun",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_redir",
    "nft_hash",
    "nft_fib_inet",
    "nft_compat",
    "nf_conntrack_netlink",
    "ip_tables",
    "iptable_filter",
    "xt_conntrack",
    "xt_addrtype",
    "xt_MASQUERADE",
    "xt_comment",
];

const STATUS: &str = "WHARF-VM-STATUS=";
/// What a skipped test prints (`wharf_testkit::lacks`).
const SKIPPED: &str = "skipped: ";

/// Boots the VM and runs the tests whose names contain one of the filters; all of them without a filter.
///
/// # Errors
/// When a test fails, or the VM does not say how they went.
pub(crate) fn run(filter: &[&str]) -> Result<()> {
    packages::install(packages::VM)?;
    build::all(build::Profile::Dev)?;
    build::static_binary(build::Profile::Dev, "hello-web", "hello-web")?;
    let tests = test_binaries(filter)?;
    let kernel = Kernel::get()?;
    let root = assemble(&kernel, &tests, filter)?;
    let initrd = pack(&root)?;
    boot(&kernel.image, &initrd, &disk()?)
}

fn work_dir() -> PathBuf {
    sh::workspace().join("target/vm")
}

/// The test binaries as cargo built them: end to end, and without a filter before it those of the crates that
/// talk to the kernel.
fn test_binaries(filter: &[&str]) -> Result<Vec<PathBuf>> {
    let mut binaries = Vec::new();
    if filter.is_empty() {
        binaries.extend(built_tests(&["-p", "wharf-sys", "-p", "wharf-runtime", "-p", "wharf-network"])?);
    }
    binaries.extend(built_tests(&["-p", "wharf-tests", "--test", "e2e"])?);
    Ok(binaries)
}

/// Builds the tests that cargo's arguments choose, and gives their programs.
fn built_tests(args: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = sh::cargo();
    command.arg("test").args(args).args(["--no-run", "--message-format=json"]);
    command.stderr(Stdio::inherit());
    let out = command.output()?;
    ensure!(out.status.success(), "building the tests failed");
    let messages = String::from_utf8(out.stdout)?;
    let artifacts = messages.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let tests = artifacts.filter(|m| m["profile"]["test"] == true);
    let executables: Vec<PathBuf> =
        tests.filter_map(|m| m["executable"].as_str().map(PathBuf::from)).collect();
    ensure!(!executables.is_empty(), "cargo named no test binary for {args:?}");
    Ok(executables)
}

/// Debian's cloud kernel, unpacked below target/vm.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
    version: String,
}

impl Kernel {
    fn get() -> Result<Self> {
        let dir = work_dir().join("kernel");
        if !dir.join("boot").exists() {
            fs::create_dir_all(&dir)?;
            let depends = sh::output(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
            let name = depends
                .lines()
                .find_map(|l| l.trim().strip_prefix("Depends: "))
                .context("apt-get update?")?;
            sh::run(Command::new("apt-get").args(["download", "-qq", name]).current_dir(&dir))?;
            let deb = find(&dir, |n| n.ends_with(".deb"))?;
            sh::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&dir))?;
        }
        let image = find(&dir.join("boot"), |n| n.starts_with("vmlinuz"))?;
        let modules = find(&dir.join("lib/modules"), |_| true)?;
        let version = modules.file_name().context("a version")?.to_string_lossy().into_owned();
        sh::run(Command::new("depmod").arg("-b").arg(&dir).arg(&version))?;
        Ok(Self { image, modules, version })
    }

    /// The files of [`MODULES`] and all they depend on, in loading order.
    fn module_files(&self) -> Result<Vec<PathBuf>> {
        let base = self.modules.ancestors().nth(3).context("lib/modules/<version>")?;
        let mut files = Vec::new();
        for module in MODULES {
            let mut command = Command::new("modprobe");
            command.arg("-d").arg(base).args(["-S", &self.version, "--show-depends", module]);
            for line in sh::output(&mut command)?.lines() {
                let Some(path) = line.strip_prefix("insmod ") else { continue };
                let path = PathBuf::from(path.trim());
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        Ok(files)
    }
}

fn find(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths = entries.flatten().map(|e| e.path());
    let found = paths.find(|p| p.file_name().is_some_and(|n| wanted(&n.to_string_lossy())));
    found.with_context(|| format!("nothing suitable in {}", dir.display()))
}

/// Lays out the VM's root below target/vm/root.
fn assemble(kernel: &Kernel, tests: &[PathBuf], filter: &[&str]) -> Result<PathBuf> {
    let root = work_dir().join("root");
    let _ = fs::remove_dir_all(&root);
    for dir in DIRECTORIES {
        fs::create_dir_all(root.join(dir))?;
    }
    let bin = build::Profile::Dev.dir();
    let mut programs = vec![
        (PathBuf::from("/bin/busybox"), "bin/busybox".to_owned()),
        (bin.join("wharf"), "usr/bin/wharf".to_owned()),
        (bin.join("wharfd"), "usr/bin/wharfd".to_owned()),
        (bin.join("wharf-shim"), "usr/bin/wharf-shim".to_owned()),
        (bin.join("hello-web"), "usr/bin/hello-web".to_owned()),
    ];
    programs.push((PathBuf::from(SYSTEMD), SYSTEMD.trim_start_matches('/').to_owned()));
    for name in
        ["docker", "nft", "iptables", "ps", "docker-registry", "skopeo", "crun", "systemctl", "mkfs.ext4"]
    {
        programs.push((which(name)?, format!("usr/bin/{name}")));
    }
    for (i, test) in tests.iter().enumerate() {
        let name = test.file_name().context("a file")?.to_string_lossy();
        programs.push((test.clone(), format!("tests/{i}-{name}")));
    }
    for (from, to) in programs {
        // Debug information would only fill the VM's memory.
        sh::run(Command::new("strip").arg("-o").arg(root.join(&to)).arg(&from))?;
        copy_libraries(&root, &from)?;
    }
    copy_extensions(&root, &which("iptables")?)?;
    copy_modules(kernel, &root)?;
    for (name, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n".to_owned()),
        ("etc/group", "root:x:0:\ndocker:x:999:\n".to_owned()),
        ("etc/resolv.conf", "nameserver 10.0.2.3\n".to_owned()),
        ("etc/hosts", "127.0.0.1 localhost\n".to_owned()),
        ("etc/hostname", "vm\n".to_owned()),
        ("etc/machine-id", "00000000000000000000000000000001\n".to_owned()),
        ("etc/systemd/system/default.target", DEFAULT_TARGET.to_owned()),
        ("etc/systemd/system/wharf-tests.service", TEST_SERVICE.to_owned()),
        ("filter", filter.join(" ")),
    ] {
        fs::write(root.join(name), text)?;
    }
    script(&root.join("init"), INIT)?;
    script(&root.join("main"), MAIN)?;
    script(&root.join("under-systemd"), UNDER_SYSTEMD)?;
    Ok(root)
}

const DIRECTORIES: &[&str] = &[
    "bin",
    "sbin",
    "dev",
    "proc",
    "sys",
    "tmp",
    "etc",
    "root",
    "run",
    "var/tmp",
    "usr/bin",
    "modules",
    "tests",
    "lib/systemd",
    "etc/systemd/system",
];

const SYSTEMD: &str = "/lib/systemd/systemd";

/// The modules, numbered in loading order, which `modules/order` lists.
fn copy_modules(kernel: &Kernel, root: &Path) -> Result<()> {
    let mut order = String::new();
    for (i, module) in kernel.module_files()?.iter().enumerate() {
        let name = format!("{i:03}.ko");
        fs::copy(module, root.join("modules").join(&name))?;
        order += &format!("{name}\n");
    }
    Ok(fs::write(root.join("modules/order"), order)?)
}

fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|d| d.join(program));
    candidates.find(|p| p.is_file()).with_context(|| format!("{program} is not on the PATH"))
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// The shared libraries a program names, at the paths it expects them; none for a static one.
fn copy_libraries(root: &Path, program: &Path) -> Result<()> {
    // ldd fails on a static program.
    let listed = Command::new("ldd").arg(program).output()?.stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    for path in listed.split_whitespace().filter(|w| w.starts_with('/') && !w.ends_with(':')) {
        let to = root.join(path.trim_start_matches('/'));
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        if !to.exists() {
            fs::copy(path, to)?;
        }
    }
    Ok(())
}

/// What iptables loads at run time for its targets and matches: the folder beside its own library.
fn copy_extensions(root: &Path, iptables: &Path) -> Result<()> {
    let listed = sh::output(Command::new("ldd").arg(iptables))?;
    let library = listed.split_whitespace().find(|w| w.starts_with('/') && w.contains("libxtables"));
    let library = fs::canonicalize(library.context("iptables without libxtables")?)?;
    let folder = library.with_file_name("xtables");
    let to = root.join(folder.strip_prefix("/")?);
    fs::create_dir_all(to.parent().context("a folder")?)?;
    sh::run(Command::new("cp").arg("-rL").arg(&folder).arg(&to))
}

/// First process: moves everything from the initramfs to a tmpfs.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mkdir /new
/bin/busybox mount -t tmpfs -o mode=755 tmpfs /new
for d in bin sbin dev proc sys tmp etc root run var usr lib lib64 modules tests filter main under-systemd; do
  [ -e /$d ] && /bin/busybox cp -a /$d /new/
done
exec /bin/busybox switch_root /new /main
";

/// Then: the machine as an init system would leave it, and the tests.
const MAIN: &str = "#!/bin/busybox sh
export PATH=/usr/bin:/bin:/sbin HOME=/root WHARF_BIN_DIR=/usr/bin WHARF_VM=1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ip link set lo up
while read module; do insmod /modules/$module || echo \"insmod $module failed\"; done < /modules/order
mount -t ext4 /dev/vda /var/tmp
mount --bind /var/tmp /tmp
chmod 1777 /tmp
echo \"kernel $(uname -r), cgroup controllers: $(cat /sys/fs/cgroup/cgroup.controllers)\"
status=0
for test in /tests/*; do
  echo \"$test, $(cut -d. -f1 /proc/uptime) s after the boot\"
  $test --test-threads=2 $(cat /filter) || status=1
done
echo $status >/status
case \" $(cat /filter) \" in
  *\"  \"*|*systemd*) exec /lib/systemd/systemd ;;
esac
echo WHARF-VM-STATUS=$status
poweroff -f
";

/// What systemd has to do: one service, and nothing of what a machine usually starts.
const DEFAULT_TARGET: &str = "[Unit]
Description=Tests that need systemd
Requires=wharf-tests.service
DefaultDependencies=no
";

const TEST_SERVICE: &str = "[Unit]
Description=Tests
DefaultDependencies=no
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c '/under-systemd >/dev/console 2>&1'
";

/// The tests that need systemd, which skip themselves before.
const UNDER_SYSTEMD: &str = "#!/bin/sh
export PATH=/usr/bin:/bin:/sbin HOME=/root WHARF_BIN_DIR=/usr/bin WHARF_VM=1
status=$(cat /status)
echo \"under systemd, $(cut -d. -f1 /proc/uptime) s after the boot\"
for test in /tests/*e2e*; do
  $test --test-threads=2 cgroup_systemd || status=1
done
echo WHARF-VM-STATUS=$status
poweroff -f
";

fn pack(root: &Path) -> Result<PathBuf> {
    let initrd = work_dir().join("initrd");
    let pipeline = format!("find . | cpio --quiet -o -H newc > {}", initrd.display());
    sh::run(Command::new("sh").args(["-c", &pipeline]).current_dir(root))?;
    Ok(initrd)
}

/// An empty disk for images and containers: not every file system can do what a disk's can (a tmpfs of this
/// kernel maps no ids).
fn disk() -> Result<PathBuf> {
    let disk = work_dir().join("disk");
    let _ = fs::remove_file(&disk);
    fs::File::create(&disk)?.set_len(4 << 30)?;
    sh::run(Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal"]).arg(&disk))?;
    Ok(disk)
}

/// The oldest processor with all that our programs are built for and the TSC as clock: emulating a newer one,
/// or a clock that is a device, takes half as long again.
const PROCESSOR: &str = "Nehalem";
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 quiet panic=-1 mitigations=off nopti clocksource=tsc tsc=reliable";

fn boot(kernel: &Path, initrd: &Path, disk: &Path) -> Result<()> {
    let mut command = Command::new("timeout");
    command.arg("2400").args(qemu::command(&work_dir())?);
    command.args(["-M", "q35", "-accel", "tcg,thread=multi"]);
    command.args(["-cpu", PROCESSOR, "-smp", "2", "-m", "3072", "-nographic", "-no-reboot", "-nic", "none"]);
    command.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", KERNEL_ARGUMENTS]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let console = child.stdout.take().context("a pipe")?;
    let (mut status, mut skipped) = (None, 0);
    for line in BufReader::new(console).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        println!("vm| {line}");
        if let Some(code) = line.strip_prefix(STATUS) {
            status = Some(code.to_owned());
        }
        skipped += usize::from(line.contains(SKIPPED));
    }
    child.wait()?;
    println!("{skipped} tests were skipped in the VM; their lines above say why");
    match status.as_deref() {
        Some("0") => Ok(()),
        Some(code) => bail!("the tests in the VM ended with status {code}"),
        None => bail!("the VM ended without saying how the tests went"),
    }
}
