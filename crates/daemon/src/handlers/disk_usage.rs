//! `GET /system/df` (source: moby `daemon/disk_usage.go`, `daemon/server/router/system/disk_usage.go`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use wharf_api::{
    Version,
    build_cache::CacheRecord,
    container, image,
    system::{DiskUsage, Usage},
    volume,
};
use wharf_engine::system::UsageKinds;

/// `GET /system/df`
pub(crate) async fn show(call: Call) -> Result<Reply> {
    let (kinds, with_cache) = kinds(&call)?;
    let engine = &call.app.engine;
    let records = if with_cache { Some(engine.builds.cache_records().await?) } else { None };
    let measured = engine.system.disk_usage(kinds).await?;
    let usage = DiskUsage {
        image_usage: kinds.images.then(|| images(measured.images, measured.layers_size)),
        container_usage: kinds.containers.then(|| containers(measured.containers)),
        volume_usage: kinds.volumes.then(|| volumes(measured.volumes)),
        build_cache_usage: records.map(build_cache),
        ..DiskUsage::default()
    };
    let form = match call.version {
        old if old < Version(1, 52) => Form::Old,
        _ if call.form.bool("verbose") => Form::New,
        _ => Form::Both,
    };
    reply::ok(&rendered(usage, form, call.version))
}

/// Which kinds the client asks for; the last is the builder's cache.
fn kinds(call: &Call) -> Result<(UsageKinds, bool)> {
    if call.version < Version(1, 42) || !call.form.has("type") {
        return Ok((UsageKinds { images: true, containers: true, volumes: true }, true));
    }
    let mut kinds = UsageKinds { images: false, containers: false, volumes: false };
    let mut build_cache = false;
    for kind in call.form.all("type") {
        match kind {
            "container" => kinds.containers = true,
            "image" => kinds.images = true,
            "volume" => kinds.volumes = true,
            "build-cache" => build_cache = true,
            other => return Err(Error::invalid(format!("unknown object type: {other}"))),
        }
    }
    Ok((kinds, build_cache))
}

fn count<T>(items: &[T], wanted: impl Fn(&T) -> bool) -> i64 {
    i64::try_from(items.iter().filter(|item| wanted(item)).count()).unwrap_or(i64::MAX)
}

fn images(mut items: Vec<image::Summary>, total_size: i64) -> Usage<image::Summary> {
    for list in items.iter_mut().flat_map(|image| [&mut image.repo_tags, &mut image.repo_digests]) {
        // Unlike the list of images, this one has null for no names.
        if list.as_ref().is_some_and(Vec::is_empty) {
            *list = None;
        }
    }
    let unused = items.iter().filter(|i| i.containers == 0 && i.size != -1 && i.shared_size != -1);
    Usage {
        active_count: count(&items, |image| image.containers > 0),
        reclaimable: unused.map(|image| image.size - image.shared_size).sum(),
        total_count: count(&items, |_| true),
        total_size,
        items,
    }
}

fn containers(mut items: Vec<container::Summary>) -> Usage<container::Summary> {
    let is_active = |c: &container::Summary| matches!(c.state.as_str(), "running" | "paused" | "restarting");
    items.iter_mut().for_each(|container| container.image_manifest_descriptor = None);
    Usage {
        active_count: count(&items, is_active),
        reclaimable: items.iter().filter(|c| !is_active(c)).map(|c| c.size_rw).sum(),
        total_count: count(&items, |_| true),
        total_size: items.iter().map(|c| c.size_rw).sum(),
        items,
    }
}

fn volumes(items: Vec<volume::Volume>) -> Usage<volume::Volume> {
    let size = |v: &volume::Volume| v.usage_data.as_ref().map_or(0, |data| data.size.max(0));
    let is_unused =
        |v: &volume::Volume| v.usage_data.as_ref().is_some_and(|data| data.size != -1 && data.ref_count == 0);
    Usage {
        active_count: count(&items, |v| !is_unused(v)),
        reclaimable: items.iter().filter(|v| is_unused(v)).map(size).sum(),
        total_count: count(&items, |_| true),
        total_size: items.iter().map(size).sum(),
        items,
    }
}

fn build_cache(items: Vec<CacheRecord>) -> Usage<CacheRecord> {
    Usage {
        active_count: count(&items, |record| record.in_use),
        reclaimable: items.iter().filter(|record| !record.in_use).map(|record| record.size).sum(),
        total_count: count(&items, |_| true),
        total_size: items.iter().map(|record| record.size).sum(),
        items,
    }
}

/// Which of the two forms of the answer a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Lists of everything, below 1.52.
    Old,
    /// Both, at 1.52 and up, since clients without version get the newest.
    Both,
    /// Sums with lists in them, for clients that say `verbose`.
    New,
}

fn rendered(mut usage: DiskUsage, form: Form, version: Version) -> DiskUsage {
    if form != Form::New {
        usage.layers_size = usage.image_usage.as_ref().map_or(0, |images| images.total_size);
        usage.images = usage.image_usage.as_ref().map(|u| u.items.clone());
        usage.containers = usage.container_usage.as_ref().map(|u| u.items.clone());
        usage.volumes = usage.volume_usage.as_ref().map(|u| u.items.clone());
        usage.build_cache = usage.build_cache_usage.as_ref().map(|u| u.items.clone());
    }
    if version < Version(1, 44) {
        for image in usage.images.iter_mut().flatten() {
            image.virtual_size = Some(image.size);
        }
    }
    if form == Form::Old {
        usage.image_usage = None;
        usage.container_usage = None;
        usage.volume_usage = None;
        usage.build_cache_usage = None;
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_dockers() {
        let image = |containers, size, shared_size| image::Summary {
            containers,
            size,
            shared_size,
            ..Default::default()
        };
        let usage = images(vec![image(1, 10, 4), image(0, 10, 4), image(-1, 9, 0)], 22);
        assert_eq!(
            (usage.active_count, usage.reclaimable, usage.total_count, usage.total_size),
            (1, 6, 3, 22)
        );
        let container =
            |state: &str, size_rw| container::Summary { state: state.into(), size_rw, ..Default::default() };
        let usage = containers(vec![container("running", 5), container("exited", 7)]);
        assert_eq!((usage.active_count, usage.reclaimable, usage.total_size), (1, 7, 12));
        let volume = |ref_count, size| volume::Volume {
            usage_data: Some(volume::UsageData { ref_count, size }),
            ..Default::default()
        };
        let usage = volumes(vec![volume(0, 3), volume(1, 4), volume(0, -1)]);
        assert_eq!((usage.active_count, usage.reclaimable, usage.total_size), (2, 3, 7));
    }

    #[test]
    fn every_age_gets_its_form() {
        let new = || DiskUsage {
            image_usage: Some(images(vec![image::Summary { size: 7, ..Default::default() }], 9)),
            volume_usage: Some(Usage::default()),
            ..DiskUsage::default()
        };
        let old = rendered(new(), Form::Old, Version(1, 43));
        assert_eq!((old.layers_size, old.image_usage.is_none()), (9, true));
        assert_eq!(old.images.unwrap()[0].virtual_size, Some(7));
        assert_eq!(old.volumes, Some(vec![]));
        let both = rendered(new(), Form::Both, Version(1, 55));
        assert!(both.images.is_some() && both.image_usage.is_some());
        let verbose = rendered(new(), Form::New, Version(1, 52));
        assert!(verbose.images.is_none() && verbose.layers_size == 0);
    }
}
