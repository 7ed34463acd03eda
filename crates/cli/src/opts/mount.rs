//! `--mount type=..,source=..,target=..` (source: docker/cli `opts/mount.go`).

use super::{csv, size, volume};
use wharf_api::mount::{BindOptions, Driver, Mount, TmpfsOptions, VolumeOptions};

/// Whether the text is a mount.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

/// Reads one `--mount`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(text: &str) -> Result<Mount, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".to_owned());
    }
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    let mut id_map = None;
    for field in csv::fields(text)? {
        match field.split_once('=').unwrap_or((&field, "auto")) {
            ("idmap", mapping) => id_map = Some(mapping.to_owned()),
            _ => apply(&mut mount, &field)?,
        }
    }
    if let Some(id_map) = id_map {
        set_id_map(&mut mount, id_map)?;
    }
    validate(&mount)?;
    Ok(mount)
}

const SWITCHES: [&str; 6] =
    ["readonly", "ro", "volume-nocopy", "volume-chown", "bind-nonrecursive", "bind-create-src"];

fn apply(mount: &mut Mount, field: &str) -> Result<(), String> {
    let (raw_key, value) = match field.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (field, None),
    };
    if raw_key.trim() != raw_key {
        return Err(format!(
            "invalid option '{}' in '{field}': option should not have whitespace",
            raw_key.trim()
        ));
    }
    let key = raw_key.to_lowercase();
    match value {
        Some(value) if value.trim().is_empty() => {
            return Err(format!("invalid value for '{raw_key}': value is empty"));
        }
        Some(value) if value.trim() != value => {
            return Err(format!(
                "invalid value for '{raw_key}' in '{field}': value should not have whitespace"
            ));
        }
        None if !SWITCHES.contains(&key.as_str()) => {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        _ => {}
    }
    set(mount, &key, value, field)
}

fn set(mount: &mut Mount, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
    let text = value.unwrap_or_default();
    match key {
        "type" => mount.kind = text.to_lowercase(),
        "source" | "src" => mount.source = volume::absolute(text),
        "target" | "dst" | "destination" => mount.target = text.to_owned(),
        "readonly" | "ro" => mount.read_only = switch(key, value)?,
        "consistency" => mount.consistency = text.to_lowercase(),
        "image-subpath" => mount.image_options.get_or_insert_default().subpath = text.to_owned(),
        _ if key.starts_with("bind-") => {
            return set_bind(mount.bind_options.get_or_insert_default(), key, value, field);
        }
        _ if key.starts_with("volume-") => {
            return set_volume(mount.volume_options.get_or_insert_default(), key, value, field);
        }
        _ if key.starts_with("tmpfs-") => {
            return set_tmpfs(mount.tmpfs_options.get_or_insert_default(), key, text, field);
        }
        _ => return Err(unknown(key, field)),
    }
    Ok(())
}

/// Wharf's own `idmap`, which binds and volumes can have.
fn set_id_map(mount: &mut Mount, id_map: String) -> Result<(), String> {
    match mount.kind.as_str() {
        "bind" => mount.bind_options.get_or_insert_default().id_map = id_map,
        "volume" => mount.volume_options.get_or_insert_default().id_map = id_map,
        kind => return Err(format!("cannot mix 'idmap' with mount type '{kind}'")),
    }
    Ok(())
}

fn unknown(key: &str, field: &str) -> String {
    format!("unexpected key '{key}' in '{field}'")
}

fn set_bind(bind: &mut BindOptions, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
    let text = value.unwrap_or_default();
    match (key, text) {
        ("bind-propagation", _) => bind.propagation = text.to_lowercase(),
        ("bind-nonrecursive", _) => {
            return Err("bind-nonrecursive is deprecated, use bind-recursive=disabled instead".to_owned());
        }
        ("bind-recursive", "enabled") => {}
        ("bind-recursive", "disabled") => bind.non_recursive = true,
        ("bind-recursive", "writable") => bind.read_only_non_recursive = true,
        ("bind-recursive", "readonly") => bind.read_only_force_recursive = true,
        ("bind-recursive", _) => {
            return Err(format!(
                "invalid value for {key}: {text} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
        ("bind-create-src", _) => bind.create_mountpoint = switch(key, value)?,
        _ => return Err(unknown(key, field)),
    }
    Ok(())
}

fn set_volume(volume: &mut VolumeOptions, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
    let text = value.unwrap_or_default();
    let pair = || {
        text.split_once('=').map_or((text.to_owned(), String::new()), |(k, v)| (k.to_owned(), v.to_owned()))
    };
    match key {
        "volume-subpath" => volume.subpath = text.to_owned(),
        // Wharf's own.
        "volume-chown" => volume.chown = switch(key, value)?,
        "volume-nocopy" => volume.no_copy = switch(key, value)?,
        "volume-label" => volume.labels.extend([pair()]),
        "volume-driver" => volume.driver_config.get_or_insert_with(Driver::default).name = text.to_owned(),
        "volume-opt" => volume.driver_config.get_or_insert_with(Driver::default).options.extend([pair()]),
        _ => return Err(unknown(key, field)),
    }
    Ok(())
}

fn set_tmpfs(tmpfs: &mut TmpfsOptions, key: &str, text: &str, field: &str) -> Result<(), String> {
    let invalid = || format!("invalid value for {key}: {text}");
    match key {
        "tmpfs-size" => tmpfs.size_bytes = size::ram_in_bytes(text).map_err(|_| invalid())?,
        "tmpfs-mode" => tmpfs.mode = u32::from_str_radix(text, 8).map_err(|_| invalid())?,
        _ => return Err(unknown(key, field)),
    }
    Ok(())
}

fn switch(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!(
            "invalid value for '{key}': invalid boolean value ({other:?}): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")"
        )),
    }
}

fn validate(mount: &Mount) -> Result<(), String> {
    if mount.kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let kind = mount.kind.as_str();
    let mixed = |options: &str| Err(format!("cannot mix '{options}-*' options with mount type '{kind}'"));
    if mount.volume_options.is_some() && kind != "volume" {
        return mixed("volume");
    }
    if mount.bind_options.is_some() && kind != "bind" {
        return mixed("bind");
    }
    if mount.tmpfs_options.is_some() && kind != "tmpfs" {
        return mixed("tmpfs");
    }
    if mount.image_options.is_some() && kind != "image" {
        return mixed("image");
    }
    let Some(bind) = &mount.bind_options else { return Ok(()) };
    if bind.read_only_non_recursive && !mount.read_only {
        return Err(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned()
        );
    }
    if bind.read_only_force_recursive && !mount.read_only {
        return Err(
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned()
        );
    }
    if bind.read_only_force_recursive && bind.propagation != "rprivate" {
        return Err(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_as_docker_does() {
        let bind =
            parse("type=bind,source=/a,target=/b,readonly,bind-propagation=rslave,bind-recursive=writable")
                .unwrap();
        assert!(bind.read_only && bind.kind == "bind" && bind.source == "/a" && bind.target == "/b");
        let options = bind.bind_options.unwrap();
        assert!(options.propagation == "rslave" && options.read_only_non_recursive);
        let volume = parse(
            "src=v,dst=/b,ro=false,volume-nocopy,volume-label=a=b,volume-driver=d,\"volume-opt=o=addr=1,2\"",
        );
        let volume = volume.unwrap();
        let options = volume.volume_options.unwrap();
        assert!(
            volume.kind == "volume" && !volume.read_only && options.no_copy && options.labels["a"] == "b"
        );
        let driver = options.driver_config.unwrap();
        assert_eq!((driver.name.as_str(), driver.options["o"].as_str()), ("d", "addr=1,2"));
        let tmpfs =
            parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap().tmpfs_options.unwrap();
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1 << 20, 0o1770));
    }

    #[test]
    fn errors_are_dockers() {
        for (text, error) in [
            ("", "value is empty"),
            ("type=bind,source=/a", "target is required"),
            ("type=,target=/b", "invalid value for 'type': value is empty"),
            ("target=/b,nonsense=1", "unexpected key 'nonsense' in 'nonsense=1'"),
            ("target", "invalid field 'target' must be a key=value pair"),
            (
                " type=bind, target=/b",
                "invalid option 'target' in ' target=/b': option should not have whitespace",
            ),
            ("type=bind,target=/b,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            (
                "type=bind,target=/b,bind-recursive=x",
                "invalid value for bind-recursive: x (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
            ),
            ("target=/b,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
    }
}
