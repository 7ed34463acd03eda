//! Mounts of a `config.json` and of a plan.
//!
//! Source of the options: runc `libcontainer/specconv/spec_linux.go`, `parseMountOptions`.

use super::{IdMapping, OciError, OciResult, config, invalid};
use std::path::Path;
use wharf_spec::plan::{IdMap, IdMaps, Mount, MountAttrs, MountKind, Propagation, Source};

/// Options that set or clear an attribute; with an `r` in front they hold for submounts too.
const ATTRIBUTES: [(&str, MountAttrs, Change); 16] = [
    ("ro", MountAttrs::READONLY, Change::Set),
    ("rw", MountAttrs::READONLY, Change::Clear),
    ("nosuid", MountAttrs::NOSUID, Change::Set),
    ("suid", MountAttrs::NOSUID, Change::Clear),
    ("nodev", MountAttrs::NODEV, Change::Set),
    ("dev", MountAttrs::NODEV, Change::Clear),
    ("noexec", MountAttrs::NOEXEC, Change::Set),
    ("exec", MountAttrs::NOEXEC, Change::Clear),
    ("noatime", MountAttrs::NOATIME, Change::Set),
    ("atime", MountAttrs::NOATIME, Change::Clear),
    ("nodiratime", MountAttrs::NODIRATIME, Change::Set),
    ("diratime", MountAttrs::NODIRATIME, Change::Clear),
    ("strictatime", MountAttrs::STRICTATIME, Change::Set),
    ("nostrictatime", MountAttrs::STRICTATIME, Change::Clear),
    ("nosymfollow", MountAttrs::NOSYMFOLLOW, Change::Set),
    ("symfollow", MountAttrs::NOSYMFOLLOW, Change::Clear),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Set,
    Clear,
}

const PROPAGATIONS: [(&str, Propagation); 6] = [
    ("rprivate", Propagation::RPrivate),
    ("private", Propagation::Private),
    ("rslave", Propagation::RSlave),
    ("slave", Propagation::Slave),
    ("rshared", Propagation::RShared),
    ("shared", Propagation::Shared),
];

/// What the kernel does anyway, or has not done for decades.
const WITHOUT_EFFECT: [&str; 12] = [
    "defaults",
    "relatime",
    "norelatime",
    "rrelatime",
    "rnorelatime",
    "remount",
    "loud",
    "silent",
    "async",
    "nomand",
    "nolazytime",
    "noiversion",
];

/// Options of the file system itself that fsconfig(2) takes as flags for any type.
const SUPERBLOCK: [&str; 5] = ["sync", "dirsync", "lazytime", "mand", "iversion"];

/// Every mount option that is not handed to the file system, sorted: for `features`.
pub(super) fn known_options() -> Vec<String> {
    let mut all: Vec<String> = ["bind", "rbind", "tmpcopyup", "idmap", "ridmap"].map(String::from).into();
    all.extend(ATTRIBUTES.iter().flat_map(|(name, ..)| [(*name).to_owned(), format!("r{name}")]));
    all.extend(PROPAGATIONS.iter().map(|(name, _)| (*name).to_owned()));
    all.extend(WITHOUT_EFFECT.iter().chain(&SUPERBLOCK).map(|name| (*name).to_owned()));
    all.sort_unstable();
    all
}

/// Reads a propagation as it stands in `rootfsPropagation`.
pub(super) fn propagation(word: &str) -> OciResult<Propagation> {
    match PROPAGATIONS.iter().find(|(name, _)| *name == word) {
        Some((_, propagation)) => Ok(*propagation),
        None if matches!(word, "unbindable" | "runbindable") => {
            Err(OciError::Unsupported(format!("rootfsPropagation={word}")))
        }
        None => invalid(format!("rootfsPropagation={word} is not supported")),
    }
}

/// The name of a propagation.
pub(super) fn propagation_word(propagation: Propagation) -> &'static str {
    let row = PROPAGATIONS.iter().find(|(_, known)| *known == propagation);
    row.map_or("rprivate", |(name, _)| name)
}

/// Options of one mount, sorted out.
#[derive(Debug, Default)]
struct Options {
    attrs: MountAttrs,
    /// Some option had an `r` in front.
    recursive_attrs: bool,
    /// `bind` is `Some(false)`, `rbind` `Some(true)`.
    bind: Option<bool>,
    propagation: Option<Propagation>,
    copy_up: bool,
    idmap: bool,
    /// For submounts too.
    recursive_idmap: bool,
    /// The rest: what the file system gets.
    data: Vec<String>,
}

impl Options {
    fn parse(words: &[String]) -> OciResult<Self> {
        let mut options = Self::default();
        for word in words {
            options.take(word)?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &str) -> OciResult<()> {
        if let Some((_, propagation)) = PROPAGATIONS.iter().find(|(name, _)| *name == word) {
            self.propagation = Some(*propagation);
        } else if let Some((attr, change, recursive)) = attribute(word) {
            self.attrs.set(attr, change == Change::Set);
            self.recursive_attrs |= recursive;
        } else {
            match word {
                "bind" => self.bind = Some(self.bind.unwrap_or(false)),
                "rbind" => self.bind = Some(true),
                "tmpcopyup" => self.copy_up = true,
                "idmap" => self.idmap = true,
                "ridmap" => (self.idmap, self.recursive_idmap) = (true, true),
                "unbindable" | "runbindable" => {
                    return Err(OciError::Unsupported(format!("mount option {word}")));
                }
                _ if WITHOUT_EFFECT.contains(&word) => {}
                _ => self.data.push(word.to_owned()),
            }
        }
        Ok(())
    }

    /// (`size`, `64m`) pairs; a word without `=` is a flag.
    fn pairs(&self) -> Vec<(String, String)> {
        let split = |word: &String| match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (word.clone(), String::new()),
        };
        // One word may hold several options, as on mount(8)'s command line.
        let words = self.data.iter().flat_map(|data| data.split(',')).filter(|word| !word.is_empty());
        words.map(|word| split(&word.to_owned())).collect()
    }
}

/// The attribute of an option, how it changes, and whether for submounts too.
fn attribute(word: &str) -> Option<(MountAttrs, Change, bool)> {
    let find = |word: &str| ATTRIBUTES.iter().find(|(name, ..)| *name == word);
    if let Some((_, attr, change)) = find(word) {
        return Some((*attr, *change, false));
    }
    find(word.strip_prefix('r')?).map(|(_, attr, change)| (*attr, *change, true))
}

/// Turns a mount of a `config.json` into one of a plan. `userns` are the container's own id maps, for `idmap`
/// without mappings.
pub(super) fn to_plan(mount: &config::Mount, bundle: &Path, userns: Option<&IdMaps>) -> OciResult<Mount> {
    for text in [&mount.destination, &mount.source, &mount.kind] {
        if text.contains('\0') {
            return invalid("mount field contains null byte");
        }
    }
    let options = Options::parse(&mount.options)?;
    if options.bind.is_some() && !options.data.is_empty() {
        return invalid(format!(
            "invalid mount {}: bind mounts cannot have any filesystem-specific options applied",
            mount.destination
        ));
    }
    Ok(Mount {
        // runc still takes relative destinations, as relative to the root.
        target: Path::new("/").join(&mount.destination).to_string_lossy().into_owned(),
        kind: kind(mount, &options, bundle),
        attrs: options.attrs,
        recursive_attrs: options.recursive_attrs,
        propagation: options.propagation,
        idmap: idmap(mount, &options, userns)?,
        idmap_single: !options.recursive_idmap,
    })
}

fn kind(mount: &config::Mount, options: &Options, bundle: &Path) -> MountKind {
    if let Some(recursive) = options.bind {
        let source = bundle.join(&mount.source).to_string_lossy().into_owned();
        return MountKind::Bind { source: Source::Path(source), recursive };
    }
    let plain = options.data.is_empty();
    match mount.kind.as_str() {
        "proc" if plain => MountKind::Proc,
        "sysfs" if plain => MountKind::Sysfs,
        "mqueue" if plain => MountKind::Mqueue,
        "cgroup" | "cgroup2" => MountKind::Cgroup,
        "devpts" if is_usual_devpts(&options.data) => MountKind::Devpts,
        "tmpfs" => MountKind::Tmpfs { options: options.pairs(), copy_up: options.copy_up },
        fs_type => MountKind::Other {
            fs_type: fs_type.to_owned(),
            source: mount.source.clone(),
            options: options.pairs(),
        },
    }
}

/// The options that a plan's devpts always has.
const DEVPTS: [&str; 4] = ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];

fn is_usual_devpts(data: &[String]) -> bool {
    data.len() == DEVPTS.len() && DEVPTS.iter().all(|usual| data.iter().any(|word| word == usual))
}

fn idmap(mount: &config::Mount, options: &Options, userns: Option<&IdMaps>) -> OciResult<Option<IdMaps>> {
    let own = mount.uid_mappings.is_some() || mount.gid_mappings.is_some();
    if !own && !options.idmap {
        return Ok(None);
    }
    let refuse = |why: &str| invalid(format!("invalid mount {}: {why}", mount.destination));
    if options.bind.is_none() {
        return refuse("id-mapped mounts are only supported for bind-mounts");
    }
    let maps = if own {
        Some(IdMaps { uids: id_maps(&mount.uid_mappings), gids: id_maps(&mount.gid_mappings) })
    } else {
        userns.cloned()
    };
    match maps.filter(|maps| !maps.uids.is_empty() && !maps.gids.is_empty()) {
        Some(maps) => Ok(Some(maps)),
        None => refuse("id-mapped mounts must have both uid and gid mappings specified"),
    }
}

/// Mappings of a document as those of a plan.
pub(super) fn id_maps(mappings: &Option<Vec<IdMapping>>) -> Vec<IdMap> {
    let map = |m: &IdMapping| IdMap { inside: m.container_id, outside: m.host_id, count: m.size };
    mappings.iter().flatten().map(map).collect()
}

/// Mappings of a plan as those of a document.
pub(super) fn id_mappings(maps: &[IdMap]) -> Vec<IdMapping> {
    let map = |m: &IdMap| IdMapping { container_id: m.inside, host_id: m.outside, size: m.count };
    maps.iter().map(map).collect()
}

/// Turns a mount of a plan into one of a `config.json`. `path_of` gives a path to what a source names.
pub(super) fn from_plan(mount: &Mount, path_of: &dyn Fn(&Source) -> String) -> config::Mount {
    let (kind, source, mut options) = described(&mount.kind, path_of);
    options.extend(attribute_words(mount));
    options.extend(mount.propagation.map(|propagation| propagation_word(propagation).to_owned()));
    config::Mount {
        destination: mount.target.clone(),
        kind: kind.to_owned(),
        source,
        options,
        uid_mappings: mount.idmap.as_ref().map(|maps| id_mappings(&maps.uids)),
        gid_mappings: mount.idmap.as_ref().map(|maps| id_mappings(&maps.gids)),
    }
}

/// Type, source and the options that come with them.
fn described<'a>(kind: &'a MountKind, path_of: &dyn Fn(&Source) -> String) -> (&'a str, String, Vec<String>) {
    let plain = |name: &'static str| (name, name.to_owned(), Vec::new());
    match kind {
        MountKind::Proc => plain("proc"),
        MountKind::Sysfs => plain("sysfs"),
        MountKind::Mqueue => plain("mqueue"),
        MountKind::Cgroup => plain("cgroup"),
        MountKind::Devpts => ("devpts", "devpts".to_owned(), DEVPTS.map(str::to_owned).into()),
        MountKind::Tmpfs { options, copy_up } => {
            let mut words = words(options);
            words.extend(copy_up.then(|| "tmpcopyup".to_owned()));
            ("tmpfs", "tmpfs".to_owned(), words)
        }
        MountKind::Bind { source, recursive } => {
            let option = if *recursive { "rbind" } else { "bind" };
            ("bind", path_of(source), vec![option.to_owned()])
        }
        MountKind::Other { fs_type, source, options } => (fs_type, source.clone(), words(options)),
    }
}

fn words(pairs: &[(String, String)]) -> Vec<String> {
    let word = |(key, value): &(String, String)| {
        if value.is_empty() { key.clone() } else { format!("{key}={value}") }
    };
    pairs.iter().map(word).collect()
}

fn attribute_words(mount: &Mount) -> Vec<String> {
    let set =
        ATTRIBUTES.iter().filter(|(_, attr, change)| *change == Change::Set && mount.attrs.contains(*attr));
    let prefix = if mount.recursive_attrs { "r" } else { "" };
    set.map(|(name, ..)| format!("{prefix}{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> config::Mount {
        config::Mount {
            destination: "/t".into(),
            kind: kind.into(),
            source: source.into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        }
    }

    fn convert(mount: &config::Mount) -> OciResult<Mount> {
        to_plan(mount, Path::new("/bundle"), None)
    }

    #[test]
    fn options_become_attributes_propagation_and_data() {
        let got =
            convert(&mount("tmpfs", "tmpfs", &["nosuid", "noexec", "size=64k,mode=755", "inode32"])).unwrap();
        assert_eq!(got.attrs, MountAttrs::NOSUID | MountAttrs::NOEXEC);
        let pairs = [("size", "64k"), ("mode", "755"), ("inode32", "")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(got.kind, MountKind::Tmpfs { options: pairs.into(), copy_up: false });
        let got = convert(&mount("none", "data", &["rbind", "rro", "rw", "rslave", "relatime"])).unwrap();
        assert_eq!(
            got.kind,
            MountKind::Bind { source: Source::Path("/bundle/data".into()), recursive: true }
        );
        assert_eq!((got.attrs, got.recursive_attrs), (MountAttrs::empty(), true), "the last word wins");
        assert_eq!(got.propagation, Some(Propagation::RSlave));
    }

    #[test]
    fn kernel_file_systems_are_recognised_only_with_their_usual_options() {
        for (kind, options, want) in [
            ("proc", &[][..], MountKind::Proc),
            ("sysfs", &["nosuid", "ro"], MountKind::Sysfs),
            ("cgroup", &["ro"], MountKind::Cgroup),
            ("devpts", &["nosuid", "mode=0620", "newinstance", "ptmxmode=0666", "gid=5"], MountKind::Devpts),
        ] {
            assert_eq!(convert(&mount(kind, kind, options)).unwrap().kind, want);
        }
        let rootless =
            convert(&mount("devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"])).unwrap();
        assert!(matches!(rootless.kind, MountKind::Other { ref options, .. } if options.len() == 3));
        let hidden = convert(&mount("proc", "proc", &["hidepid=2"])).unwrap();
        assert!(matches!(hidden.kind, MountKind::Other { ref fs_type, .. } if fs_type == "proc"));
    }

    #[test]
    fn what_runc_refuses_is_refused() {
        for (bad, text) in [
            (
                mount("bind", "/x", &["bind", "size=1"]),
                "bind mounts cannot have any filesystem-specific options",
            ),
            (mount("bind", "/x\0", &["bind"]), "mount field contains null byte"),
            (mount("tmpfs", "x", &["idmap"]), "id-mapped mounts are only supported for bind-mounts"),
            (mount("bind", "/x", &["bind", "idmap"]), "must have both uid and gid mappings specified"),
            (mount("bind", "/x", &["bind", "unbindable"]), "mount option unbindable is not supported"),
        ] {
            let error = convert(&bad).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        assert_eq!(
            propagation("sideways").unwrap_err().to_string(),
            "rootfsPropagation=sideways is not supported"
        );
    }

    #[test]
    fn a_mount_survives_the_way_through_a_document() {
        let path_of = |source: &Source| match source {
            Source::Path(path) => path.clone(),
            Source::Fd(fd) => format!("/proc/self/fd/{}", fd.0),
        };
        for original in [
            mount("tmpfs", "tmpfs", &["size=1m", "huge=never", "tmpcopyup", "nosuid", "rprivate"]),
            mount("bind", "/data", &["rbind", "rro", "rnosuid", "rshared"]),
            mount("devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5", "noexec"]),
            mount("ext4", "/dev/x", &["data=journal", "noatime", "strictatime", "nosymfollow", "nodev"]),
            mount("cgroup", "cgroup", &["ro", "nodiratime"]),
        ] {
            let planned = convert(&original).unwrap();
            assert_eq!(convert(&from_plan(&planned, &path_of)).unwrap(), planned, "{original:?}");
        }
    }

    #[test]
    fn options_for_features_are_sorted_and_unique() {
        let options = known_options();
        assert!(options.windows(2).all(|pair| pair[0] < pair[1]), "{options:?}");
        assert!(
            ["ro", "rro", "rprivate", "tmpcopyup", "idmap"].iter().all(|o| options.iter().any(|x| x == o))
        );
    }
}
