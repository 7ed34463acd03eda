//! The daemon itself (source: moby `daemon/server/router/system`).

use crate::{
    error::{Error, Result},
    http::{
        body::Body,
        call::Call,
        reply::{self, Reply},
    },
};
use http::{HeaderValue, Method, StatusCode, header};
use wharf_api::{
    Version,
    auth::{AuthConfig, AuthResponse},
    gojson,
    system::{DiskUsage, Info},
};
use wharf_engine::system::DiskUsageOptions;

/// `GET /_ping` and `HEAD /_ping`
pub(crate) async fn ping(call: Call) -> Result<Reply> {
    let body = if call.parts.method == Method::HEAD { Body::empty() } else { Body::full("OK") };
    let mut answer = reply::with_type(StatusCode::OK, "text/plain; charset=utf-8", body);
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    if call.parts.method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(answer)
}

/// `OPTIONS` of anything
pub(crate) async fn options(_: Call) -> Result<Reply> {
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /version`
pub(crate) async fn version(call: Call) -> Result<Reply> {
    let mut answer = call.app.engine.system.version().await?;
    answer.min_api_version = call.app.min_version.to_string();
    reply::ok(&answer)
}

/// `GET /info`
pub(crate) async fn info(call: Call) -> Result<Reply> {
    let mut info = call.app.engine.system.info().await?;
    adapt_info(&mut info, call.version);
    reply::ok(&info)
}

/// What older versions have, and do not have.
fn adapt_info(info: &mut Info, version: Version) {
    if version < Version(1, 44) {
        info.runtimes.values_mut().for_each(|runtime| runtime.status.clear());
    }
    if version < Version(1, 46) {
        info.containerd = None;
    }
    if version < Version(1, 47)
        && let Some(registries) = &mut info.registry_config
    {
        registries.allow_nondistributable_artifacts_cidrs = Some(());
        registries.allow_nondistributable_artifacts_hostnames = Some(());
    }
    if version < Version(1, 49) {
        info.firewall_backend = None;
        for commit in [&mut info.containerd_commit, &mut info.runc_commit, &mut info.init_commit] {
            commit.expected = Some(commit.id.clone());
        }
    }
    if version < Version(1, 50) {
        info.discovered_devices.clear();
        info.bridge_nf_iptables = Some(false);
        info.bridge_nf_ip6tables = Some(false);
    }
}

/// `GET /system/df`
pub(crate) async fn disk_usage(call: Call) -> Result<Reply> {
    let mut wanted = DiskUsageOptions::default();
    let every = call.version < Version(1, 42) || !call.form.has("type");
    if every {
        wanted = DiskUsageOptions { containers: true, images: true, volumes: true, build_cache: true };
    } else {
        for kind in call.form.all("type") {
            match kind {
                "container" => wanted.containers = true,
                "image" => wanted.images = true,
                "volume" => wanted.volumes = true,
                "build-cache" => wanted.build_cache = true,
                other => return Err(Error::invalid(format!("unknown object type: {other}"))),
            }
        }
    }
    let mut usage = call.app.engine.system.disk_usage(wanted).await?;
    let verbose = call.version >= Version(1, 52) && call.form.bool("verbose");
    adapt_usage(&mut usage, call.version, verbose);
    reply::ok(&usage)
}

/// The engine fills the fields of 1.52 with all items. Up to 1.51 clients get the older fields, at 1.52 both,
/// unless they ask for the new ones alone.
fn adapt_usage(usage: &mut DiskUsage, version: Version, verbose: bool) {
    if !verbose {
        if let Some(images) = &mut usage.image_usage {
            usage.layers_size = images.total_size;
            usage.images = Some(images.items.clone());
        }
        usage.containers = usage.container_usage.as_ref().map(|u| u.items.clone());
        usage.volumes = usage.volume_usage.as_ref().map(|u| u.items.clone());
        usage.build_cache = usage.build_cache_usage.as_ref().map(|u| u.items.clone());
    }
    if version < Version(1, 44) {
        for image in usage.images.iter_mut().flatten() {
            image.virtual_size = Some(image.size);
        }
    }
    if version < Version(1, 52) {
        usage.image_usage = None;
        usage.container_usage = None;
        usage.volume_usage = None;
        usage.build_cache_usage = None;
    }
}

/// `POST /auth`: its body is read as the header `X-Registry-Auth` is (source: moby `api/pkg/authconfig`).
pub(crate) async fn auth(mut call: Call) -> Result<Reply> {
    let body = call.bytes().await?;
    let fail = |why: String| Error::invalid(format!("invalid X-Registry-Auth header: {why}"));
    let config: AuthConfig = match gojson::decode(&body) {
        Ok((_, rest)) if gojson::more(rest) => {
            return Err(fail("multiple JSON documents not allowed".into()));
        }
        Ok((config, _)) => config,
        Err(e) => return Err(fail(format!("invalid JSON: {e}"))),
    };
    let identity_token = call.app.engine.images.login(config).await?;
    reply::ok(&AuthResponse { identity_token, status: "Login Succeeded".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::{image::Summary, system::Usage};

    #[test]
    fn disk_usage_of_every_age() {
        let new = || DiskUsage {
            image_usage: Some(Usage {
                items: vec![Summary { size: 7, ..Default::default() }],
                total_size: 9,
                ..Default::default()
            }),
            volume_usage: Some(Usage::default()),
            ..DiskUsage::default()
        };
        let at = |minor, verbose| {
            let mut usage = new();
            adapt_usage(&mut usage, Version(1, minor), verbose);
            usage
        };
        let old = at(43, false);
        assert_eq!((old.layers_size, old.image_usage.is_none()), (9, true));
        assert_eq!(old.images.unwrap()[0].virtual_size, Some(7));
        assert_eq!(old.volumes, Some(vec![]));
        let both = at(52, false);
        assert!(both.images.is_some() && both.image_usage.is_some());
        let verbose = at(52, true);
        assert!(verbose.images.is_none() && verbose.layers_size == 0);
    }

    #[test]
    fn info_of_every_age() {
        let at = |minor| {
            let mut info = Info { registry_config: Some(Default::default()), ..Default::default() };
            adapt_info(&mut info, Version(1, minor));
            serde_json::to_value(info).unwrap()
        };
        assert_eq!(at(46)["RegistryConfig"]["AllowNondistributableArtifactsCIDRs"], serde_json::Value::Null);
        assert!(
            at(46)["RegistryConfig"]
                .as_object()
                .unwrap()
                .contains_key("AllowNondistributableArtifactsHostnames")
        );
        assert_eq!(at(48)["RuncCommit"]["Expected"], "");
        assert_eq!(at(49)["BridgeNfIptables"], false);
        assert!(at(50).get("BridgeNfIptables").is_none());
    }
}
