//! `GET /version`

use super::{System, host};
use wharf_api::{StringMap, system as api};

/// Wharf's own version.
pub const WHARF: &str = env!("CARGO_PKG_VERSION");

impl System {
    /// Who we are. The API versions are the daemon's to fill in. `Version` is a Docker version number, because
    /// clients compare it; our own stands among the components.
    pub fn version(&self) -> api::VersionResponse {
        let kernel = host::kernel_release();
        let arch = super::host_platform().architecture;
        let details: StringMap = [
            ("Arch", arch.clone()),
            ("Experimental", self.0.config.experimental.to_string()),
            ("KernelVersion", kernel.clone()),
            ("Os", "linux".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        let component = |name: &str, version: &str, details| api::Component {
            name: name.into(),
            version: version.into(),
            details,
        };
        api::VersionResponse {
            platform: api::PlatformInfo { name: format!("Wharf {WHARF}") },
            components: vec![
                component("Engine", &self.0.config.server_version, details),
                component("wharfd", WHARF, StringMap::new()),
                component("wharf-shim", WHARF, StringMap::new()),
            ],
            version: self.0.config.server_version.clone(),
            os: "linux".into(),
            arch,
            // Keys that Docker always sends.
            git_commit: "wharf".into(),
            go_version: "none".into(),
            kernel_version: kernel,
            build_time: "1970-01-01T00:00:00.000000000+00:00".into(),
            experimental: self.0.config.experimental,
            ..api::VersionResponse::default()
        }
    }
}
