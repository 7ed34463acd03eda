//! Mounts as requests write them: `source:target:mode` and the structured form
//! (source: moby `daemon/volume/mounts/linux_parser.go`).

use super::ownership;
use crate::{Error, Result, containers::record::MountPoint, containers::validate_path};
use std::path::Path;
use wharf_api::mount::{BindOptions, Driver, Mount, VolumeOptions};

/// Whether a bind mount's source must be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::containers) enum BindSource {
    MustExist,
    MayBeMade,
}

/// Checks one structured mount.
///
/// # Errors
/// `invalid mount config for type ...`.
pub(in crate::containers) fn check_spec(mount: &Mount, source: BindSource) -> Result<()> {
    check(mount, source)
        .map_err(|why| Error::Invalid(format!("invalid mount config for type {:?}: {why}", mount.kind)))
}

fn check(mount: &Mount, source: BindSource) -> Result<(), String> {
    check_exclusive(mount)?;
    if mount.target.is_empty() {
        return Err("field Target must not be empty".into());
    }
    not_root(&mount.target)?;
    absolute(&mount.target)?;
    ownership::check(mount)?;
    match mount.kind.as_str() {
        "bind" => check_bind(mount, source),
        "volume" => match mount.volume_options.as_ref().map(|o| o.subpath.as_str()) {
            None | Some("") => Ok(()),
            Some(_) if mount.source.is_empty() => {
                Err("must not set Subpath when using anonymous volumes".into())
            }
            Some(path) => local_path(path, "volume"),
        },
        "tmpfs" if !mount.source.is_empty() => Err("field Source must not be specified".into()),
        "tmpfs" => check_tmpfs(mount),
        "image" if mount.source.is_empty() => Err("field Source must not be empty".into()),
        "image" => match mount.image_options.as_ref().map(|o| o.subpath.as_str()) {
            None | Some("") => Ok(()),
            Some(path) => local_path(path, "volume"),
        },
        _ => Err("mount type unknown".into()),
    }
}

fn check_exclusive(mount: &Mount) -> Result<(), String> {
    let fields = [
        ("bind", mount.bind_options.is_some(), "BindOptions"),
        ("volume", mount.volume_options.is_some(), "VolumeOptions"),
        ("image", mount.image_options.is_some(), "ImageOptions"),
        ("tmpfs", mount.tmpfs_options.is_some(), "TmpfsOptions"),
        ("cluster", mount.cluster_options.is_some(), "ClusterOptions"),
    ];
    match fields.iter().find(|(kind, given, _)| *given && mount.kind != *kind) {
        Some((_, _, field)) => Err(format!("field {field} must not be specified")),
        None => Ok(()),
    }
}

fn check_bind(mount: &Mount, source: BindSource) -> Result<(), String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".into());
    }
    let options = mount.bind_options.as_ref();
    if let Some(mode) =
        options.map(|o| o.propagation.as_str()).filter(|m| !m.is_empty() && !is_propagation(m))
    {
        return Err(format!("invalid propagation mode: {mode}"));
    }
    absolute(&mount.source)?;
    let made = options.is_some_and(|o| o.create_mountpoint);
    if source == BindSource::MustExist && !made && !Path::new(&mount.source).exists() {
        return Err(format!("bind source path does not exist: {}", mount.source));
    }
    Ok(())
}

fn check_tmpfs(mount: &Mount) -> Result<(), String> {
    for option in mount.tmpfs_options.iter().flat_map(|o| &o.options) {
        match option.as_slice() {
            [name] | [name, _] if matches!(name.as_str(), "exec" | "noexec") => {}
            [name] | [name, _] => return Err(format!("invalid option: {name}")),
            _ => return Err("invalid option array length".into()),
        }
    }
    Ok(())
}

fn not_root(target: &str) -> Result<(), String> {
    if validate_path(target) == "/" && target.starts_with('/') {
        return Err("invalid specification: destination can't be '/'".into());
    }
    Ok(())
}

fn absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(format!("invalid mount path: '{path}' mount path must be absolute"))
    }
}

/// A path that stays below where it starts.
fn local_path(path: &str, what: &str) -> Result<(), String> {
    let mut depth = 0i32;
    let stays = !path.starts_with('/')
        && path.split('/').all(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth >= 0
        });
    if stays { Ok(()) } else { Err(format!("subpath must be a relative path within the {what}")) }
}

/// The target of `--tmpfs`.
///
/// # Errors
/// When it is the root or not absolute.
pub(in crate::containers) fn check_target(target: &str) -> Result<()> {
    not_root(target).and_then(|()| absolute(target)).map_err(Error::Invalid)
}

fn is_propagation(word: &str) -> bool {
    matches!(word, "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared")
}

/// Whether a mode such as `ro,z` has words that are known, each kind at most once.
fn is_mode(mode: &str) -> bool {
    let mut seen = [0; 7];
    mode.is_empty()
        || mode.split(',').all(|word| {
            let kind = match word {
                "rw" | "ro" => 0,
                "z" | "Z" => 1,
                "nocopy" => 3,
                "consistent" | "cached" | "delegated" => 4,
                word if is_propagation(word) => 2,
                "U" => 5,
                word if ownership::is_word(word) => 6,
                _ => return false,
            };
            seen[kind] += 1;
            seen[kind] == 1
        })
}

fn is_writable(mode: &str) -> bool {
    is_mode(mode) && !mode.split(',').any(|word| word == "ro")
}

/// Parses `[source:]target[:mode]`.
///
/// # Errors
/// `invalid volume specification: ...`, which Docker answers with status 500.
pub(super) fn parse_raw(raw: &str, volume_driver: &str) -> Result<MountPoint> {
    let bad = || Error::Refused(format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    let (source, target, mode) = match parts.as_slice() {
        ["", ..] => return Err(bad()),
        [target] => ("", *target, ""),
        [_, mode] if is_mode(mode) => return Err(bad()),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(bad()),
    };
    if !is_mode(mode) {
        return Err(Error::Refused(format!("invalid mode: {mode}")));
    }
    let is_bind = source.starts_with('/');
    let mut spec = Mount {
        kind: if is_bind { "bind" } else { "volume" }.into(),
        source: source.into(),
        target: target.into(),
        read_only: !is_writable(mode),
        ..Mount::default()
    };
    if !volume_driver.is_empty() && !is_bind {
        let driver = Driver { name: volume_driver.into(), ..Driver::default() };
        spec.volume_options = Some(VolumeOptions { driver_config: Some(driver), ..Default::default() });
    }
    if mode.split(',').any(|word| word == "nocopy") {
        spec.volume_options.get_or_insert_default().no_copy = true;
    }
    if let Some(propagation) = mode.split(',').find(|word| is_propagation(word)) {
        spec.bind_options = Some(BindOptions { propagation: propagation.into(), ..BindOptions::default() });
    }
    ownership::take_words(mode, &mut spec)
        .map_err(|why| Error::Invalid(format!("invalid mode: {mode}: {why}")))?;
    let mut point = parse_spec(&spec, BindSource::MayBeMade)
        .map_err(|why| Error::Refused(format!("invalid volume specification: '{raw}': {why}")))?;
    point.mode = mode.into();
    Ok(point)
}

/// The mount point of a structured mount.
///
/// # Errors
/// As [`check_spec`].
pub(super) fn parse_spec(spec: &Mount, source: BindSource) -> Result<MountPoint> {
    check_spec(spec, source)?;
    let mut point = MountPoint {
        rw: !spec.read_only,
        destination: validate_path(&spec.target),
        kind: spec.kind.clone(),
        spec: spec.clone(),
        ..MountPoint::default()
    };
    match spec.kind.as_str() {
        "volume" => {
            point.name.clone_from(&spec.source);
            let options = spec.volume_options.as_ref();
            point.copy_data = !options.is_some_and(|o| o.no_copy);
            if let Some(driver) = options.and_then(|o| o.driver_config.as_ref()) {
                point.driver.clone_from(&driver.name);
            }
        }
        "bind" => {
            point.source = validate_path(&spec.source);
            let asked = spec.bind_options.as_ref().map_or("", |o| o.propagation.as_str());
            point.propagation = if asked.is_empty() { "rprivate".into() } else { asked.into() };
        }
        "image" => {
            point.source.clone_from(&spec.source);
            point.propagation = "rprivate".into();
        }
        _ => {}
    }
    Ok(point)
}

/// Parses an item of `VolumesFrom`, `container[:mode]`: the container, and whether it may be written.
///
/// # Errors
/// For an empty item and modes that make no sense here.
pub(super) fn parse_volumes_from(item: &str) -> Result<(&str, bool)> {
    if item.is_empty() {
        return crate::error::invalid("volumes-from specification cannot be an empty string");
    }
    let (container, mode) = item.split_once(':').unwrap_or((item, ""));
    let of_the_original = |word: &str| is_propagation(word) || word == "nocopy";
    if !is_mode(mode) || mode.split(',').any(of_the_original) {
        return crate::error::invalid(format!("invalid mode: {mode}"));
    }
    Ok((container, is_writable(mode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_and_volumes_are_told_apart() {
        let bind = parse_raw("/tmp:/x/../y:ro,rslave", "").unwrap();
        assert_eq!(
            (bind.kind.as_str(), bind.source.as_str(), bind.destination.as_str()),
            ("bind", "/tmp", "/y")
        );
        assert_eq!((bind.rw, bind.propagation.as_str(), bind.mode.as_str()), (false, "rslave", "ro,rslave"));
        let volume = parse_raw("data:/v:nocopy", "local").unwrap();
        assert_eq!(
            (volume.kind.as_str(), volume.name.as_str(), volume.driver.as_str()),
            ("volume", "data", "local")
        );
        assert!(volume.rw && !volume.copy_data);
        let anonymous = parse_raw("/v", "").unwrap();
        assert_eq!((anonymous.kind.as_str(), anonymous.name.as_str()), ("volume", ""));
        assert!(parse_raw("/nosuch/dir:/x", "").is_ok());
    }

    #[test]
    fn errors_are_dockers() {
        let raw = |text| parse_raw(text, "").unwrap_err().to_string();
        assert_eq!(raw("a:b:c:d"), "invalid volume specification: 'a:b:c:d'");
        assert_eq!(
            raw("/tmp:rel"),
            "invalid volume specification: '/tmp:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute"
        );
        assert_eq!(raw("/x:ro"), "invalid volume specification: '/x:ro'");
        assert_eq!(raw("/x:/y:what"), "invalid mode: what");
        assert_eq!(raw("/x:/y:ro,rw"), "invalid mode: ro,rw");
        assert_eq!(
            raw("/x:/"),
            "invalid volume specification: '/x:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'"
        );
        let spec = |kind: &str, source: &str, target: &str| {
            let mount =
                Mount { kind: kind.into(), source: source.into(), target: target.into(), ..Mount::default() };
            check_spec(&mount, BindSource::MustExist).map_or_else(|e| e.to_string(), |()| "fine".into())
        };
        assert_eq!(spec("weird", "", "/x"), "invalid mount config for type \"weird\": mount type unknown");
        assert_eq!(
            spec("volume", "", ""),
            "invalid mount config for type \"volume\": field Target must not be empty"
        );
        assert_eq!(
            spec("bind", "/nosuch/dir", "/x"),
            "invalid mount config for type \"bind\": bind source path does not exist: /nosuch/dir"
        );
        assert_eq!(spec("tmpfs", "", "/x"), "fine");
    }

    #[test]
    fn subpaths_stay_inside() {
        for good in ["a", "a/b/../c", "./a"] {
            assert!(local_path(good, "volume").is_ok(), "{good}");
        }
        for bad in ["/a", "..", "a/../../b"] {
            assert!(local_path(bad, "volume").is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_from() {
        assert_eq!(parse_volumes_from("c:ro").unwrap(), ("c", false));
        assert_eq!(parse_volumes_from("c").unwrap(), ("c", true));
        for bad in ["", "c:rslave", "c:nocopy", "c:x"] {
            assert!(parse_volumes_from(bad).is_err(), "{bad}");
        }
    }
}
