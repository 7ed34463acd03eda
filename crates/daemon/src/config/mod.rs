//! The daemon's configuration: flags and `daemon.json`, merged as dockerd merges them
//! (source: moby `daemon/config/config.go`, `daemon/command/config*.go`).
//!
//! Both sides become JSON objects with the keys of the file; the merged object is read into [`Settings`].
//! What a key means is therefore said once, in [`options::OPTIONS`].

mod file;
mod flags;
mod options;
mod reload;
mod settings;
mod to_engine;
mod validate;

pub(crate) use flags::Flags;
pub(crate) use options::help;
pub(crate) use reload::reread;
pub(crate) use settings::{Settings, TlsFiles};

use serde_json::{Map, Value};
use std::path::PathBuf;

/// What can be wrong with flags or file. The texts are dockerd's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something is wrong with the file, or with file and flags together.
    #[error("unable to configure the Docker daemon with file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: file::FileError,
    },
    /// A value is not what its option takes.
    #[error("{0}")]
    Invalid(String),
}

/// The default of `--config-file`; the only file that may be missing.
const DEFAULT_FILE: &str = "/etc/docker/daemon.json";

/// Merges flags and file and checks the result.
///
/// # Errors
/// See [`Error`].
pub(crate) fn load(flags: &Flags) -> Result<Settings, Error> {
    complete(flags, &file_of(flags)?)
}

/// The keys of the file.
fn file_of(flags: &Flags) -> Result<Map<String, Value>, Error> {
    let path = flags.config_file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let file = match file::read(&path) {
        Ok(file) => file,
        Err(e) if e.is_missing() && flags.config_file.is_none() => Map::new(),
        Err(source) => return Err(Error::File { path, source }),
    };
    file::check(&file, &flags.values).map_err(|source| Error::File { path, source })?;
    Ok(file)
}

/// Flags and file together, checked.
fn complete(flags: &Flags, file: &Map<String, Value>) -> Result<Settings, Error> {
    let mut settings = settings::read(merge(file, &flags.values)).map_err(Error::Invalid)?;
    settings.set = set_keys(file, &flags.values);
    settings.apply_environment().map_err(Error::Invalid)?;
    validate::settings(&mut settings).map_err(Error::Invalid)?;
    Ok(settings)
}

/// The file's object with the flags on top; only `runtimes` may come from both, and is united.
fn merge(file: &Map<String, Value>, flags: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = file.clone();
    for (key, value) in flags {
        match (merged.get_mut(key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => {
                known.extend(more.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            _ => {
                merged.insert(key.clone(), value.clone());
            }
        }
    }
    merged
}

fn set_keys(file: &Map<String, Value>, flags: &Map<String, Value>) -> Vec<String> {
    let mut keys: Vec<String> = file.keys().chain(flags.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn load_with(json: Option<&str>, args: &[&str]) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        if let Some(json) = json {
            fs::write(&path, json).unwrap();
        }
        let mut all = vec![format!("--config-file={}", path.display())];
        all.extend(args.iter().map(|a| (*a).to_owned()));
        let flags = Flags::parse(all).map_err(|e| e.to_string())?;
        load(&flags).map_err(|e| e.to_string().replace(&path.display().to_string(), "F"))
    }

    fn failure(json: &str, args: &[&str]) -> String {
        load_with(Some(json), args).unwrap_err()
    }

    const PREFIX: &str = "unable to configure the Docker daemon with file F: ";

    #[test]
    fn flags_and_file_are_merged() {
        let json = r#"{"debug":true,"labels":["a=b"],"dns":["1.1.1.1"],"log-opts":{"max-size":"1m"},"mtu":1400,
            "runtimes":{"one":{"path":"/bin/one"}},"features":{"buildkit":true}}"#;
        let args = [
            "--data-root",
            "/tmp/x",
            "-H",
            "unix:///tmp/x.sock",
            "--add-runtime=two=/bin/two",
            "--icc=false",
            "-l",
            "warn",
        ];
        let s = load_with(Some(json), &args).unwrap();
        assert!(s.debug && !s.icc && s.iptables);
        assert_eq!((s.data_root.as_path(), s.mtu), (Path::new("/tmp/x"), 1400));
        assert_eq!(s.hosts, ["unix:///tmp/x.sock"]);
        assert_eq!(s.runtimes.keys().collect::<Vec<_>>(), ["one", "two"]);
        let engine = s.to_engine();
        assert_eq!(engine.log_options["max-size"], "1m");
        assert_eq!(engine.live.get().labels, ["a=b"]);
        assert!(!engine.network.inter_container_communication);
    }

    #[test]
    fn keys_nobody_knows_are_refused() {
        assert_eq!(
            failure(r#"{"foo":1,"debug":true}"#, &[]),
            format!("{PREFIX}the following directives don't match any configuration option: foo")
        );
    }

    #[test]
    fn an_option_comes_from_one_side_only() {
        assert_eq!(
            failure(r#"{"debug":false,"labels":["x=y"]}"#, &["-D", "--label", "a=b", "--label=c=d"]),
            format!(
                "{PREFIX}the following directives are specified both as a flag and in the configuration file: \
                 debug: (from flag: true, from file: false), labels: (from flag: [a=b c=d], from file: [x=y])"
            )
        );
        assert!(load_with(Some(r#"{"runtimes":{"a":{"path":"/a"}}}"#), &["--add-runtime", "b=/b"]).is_ok());
    }

    #[test]
    fn bad_json_says_so() {
        assert_eq!(
            failure("{nope", &[]),
            format!("{PREFIX}invalid JSON: invalid character 'n' looking for beginning of object key string")
        );
        assert_eq!(load_with(Some(" \n"), &[]).unwrap().log_level, "info");
        assert!(failure(r#"{"debug":"yes"}"#, &[]).contains("cannot unmarshal string into Go struct field"));
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let message = load_with(None, &[]).unwrap_err();
        assert!(
            message.starts_with("unable to configure the Docker daemon with file F: open F: no such file"),
            "{message}"
        );
    }

    #[test]
    fn values_are_checked() {
        for (args, want) in [
            (&["--log-level=loud"][..], "invalid logging level: loud"),
            (&["--label", "a=b", "--label", "a=c"], "conflict labels for a=c and a=b"),
            (&["--label", "nolabel"], "bad attribute format: nolabel"),
            (&["-H", "ftp://x"], "invalid bind address (ftp://x): unsupported proto 'ftp'"),
            (&["--mtu=-1"], "invalid default MTU: -1"),
            (
                &["--default-ipc-mode=host"],
                "IPC mode \"host\" is not supported as default value; use \"shareable\" or \"private\"",
            ),
            (&["--storage-opt=x=y"], "overlay2: unknown option x"),
            (&["--default-stop-timeout=-1"], "invalid default stop timeout: -1"),
            (
                &["--host-gateway-ip=1.1.1.1", "--host-gateway-ip=2.2.2.2"],
                "only one IPv4 host gateway IP address can be specified",
            ),
            (
                &["--default-network-opt=bridge=x"],
                "invalid argument \"bridge=x\" for \"--default-network-opt\" flag: invalid value \"x\" for map option, should be key=value",
            ),
            (
                &["--exec-opt", "native.cgroupdriver=none"],
                "native.cgroupdriver option none is internally used and cannot be specified manually",
            ),
            (&["--exec-opt", "x"], "invalid exec-opt (x): must be formatted 'opt=value'"),
            (&["--storage-driver=btrfs"], "the storage driver \"btrfs\" is not built in Wharf"),
            (&["--default-runtime=nosuch"], "specified default runtime 'nosuch' does not exist"),
            (
                &["--bridge=br0", "--bip=10.0.0.1/24"],
                "You specified -b & --bip, mutually exclusive options. Please specify only one",
            ),
            (
                &["--bridge=br0", "--bip6=fd00::1/64"],
                "You specified -b & --bip6, mutually exclusive options. Please specify only one",
            ),
            (
                &["--ipv6", "--ip6tables=false", "--icc=false"],
                "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to function. Please set --icc or --ip6tables to true",
            ),
        ] {
            assert_eq!(load_with(Some("{}"), args).unwrap_err(), want, "{args:?}");
        }
    }

    #[test]
    fn options_reach_the_engine() {
        let args = [
            "--default-network-opt=bridge=com.docker.network.driver.mtu=1400",
            "--default-network-opt=bridge=a=b",
            "--init-path=/sbin/tini",
            "--default-stop-timeout=3",
            "--host-gateway-ip=10.0.0.1",
            "--cdi-spec-dir=/a",
            "--cdi-spec-dir=/b",
        ];
        let engine = load_with(Some("{}"), &args).unwrap().to_engine();
        assert_eq!(engine.network.default_options["bridge"].len(), 2);
        assert_eq!(engine.init_path.as_deref(), Some(Path::new("/sbin/tini")));
        assert_eq!((engine.live.get().default_stop_timeout, engine.host_gateway_ips.len()), (3, 1));
        assert_eq!(engine.cdi_spec_dirs, ["/a", "/b"]);
        let old = r#"{"host-gateway-ip":"10.0.0.9","features":{"cdi":false},"default-network-opts":{"bridge":{"c":"d"}}}"#;
        let engine = load_with(Some(old), &[]).unwrap().to_engine();
        assert_eq!(engine.host_gateway_ips[0].to_string(), "10.0.0.9");
        assert!(engine.cdi_spec_dirs.is_empty() && engine.network.default_options["bridge"]["c"] == "d");
        assert!(load_with(Some("{}"), &["--cdi-spec-dir="]).unwrap().cdi_spec_dirs.is_empty());
    }

    #[test]
    fn tls_is_on_where_it_is_asked_for() {
        let tls = |args: &[&str]| load_with(Some("{}"), args).unwrap().tls();
        assert_eq!(tls(&[]), None);
        assert_eq!(tls(&["--tls=false"]), None);
        assert!(tls(&["--tls"]).unwrap().verify);
        let unverified = tls(&["--tlsverify=false", "--tlscert=/c"]).unwrap();
        assert!(!unverified.verify && unverified.cert == Path::new("/c"));
        assert!(unverified.ca.ends_with("ca.pem"));
    }

    #[test]
    fn hosts_are_completed() {
        let hosts = |args: &[&str]| load_with(Some("{}"), args).unwrap().hosts;
        assert_eq!(hosts(&[]), ["unix:///var/run/docker.sock"]);
        assert_eq!(
            hosts(&["-H", "tcp://", "-H", "127.0.0.1:99", "-H", "fd://"]),
            ["tcp://localhost:2375", "tcp://127.0.0.1:99", "fd://"]
        );
        assert_eq!(
            hosts(&["-H", "unix://", "-H", "tcp://[::1]:80"]),
            ["unix:///var/run/docker.sock", "tcp://[::1]:80"]
        );
    }
}
