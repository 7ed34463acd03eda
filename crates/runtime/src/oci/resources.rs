//! Limits of a `config.json` and of a plan.

use super::{OciError, OciResult, config, devices, invalid};
use wharf_spec::plan::{DeviceLimit, Resources};

/// Turns the `resources` of a document into those of a plan, device rules as they stand: for `update`.
/// What cannot be honoured but never was a promise is named in `warnings`.
///
/// # Errors
/// [`OciError::Invalid`] in runc's words; [`OciError::Unsupported`] for limits that a plan has no place for.
pub fn resources_to_plan(from: &config::Resources, warnings: &mut Vec<String>) -> OciResult<Resources> {
    let mut to = Resources { devices: devices::rules(&from.devices)?, ..Resources::default() };
    memory(from.memory.as_ref(), &mut to, warnings);
    cpu(from.cpu.as_ref(), &mut to);
    to.pids_limit = from.pids.as_ref().and_then(|pids| pids.limit);
    block_io(from.block_io.as_ref(), &mut to)?;
    to.hugepage_limits = from.hugepage_limits.iter().map(|l| (l.page_size.clone(), l.limit)).collect();
    to.unified = from.unified.iter().map(|(file, value)| (file.clone(), value.clone())).collect();
    if let Some(network) = &from.network {
        to.network_class = network.class_id;
        to.network_priorities =
            network.priorities.iter().map(|one| (one.name.clone(), one.priority)).collect();
    }
    to.rdma = from.rdma.iter().flatten().map(|(device, limits)| (device.clone(), rdma(limits))).collect();
    Ok(to)
}

/// The kernel's words for the limits of one device.
fn rdma(from: &config::Rdma) -> String {
    let word = |name: &str, limit: Option<u32>| match limit {
        Some(limit) => format!("{name}={limit}"),
        None => format!("{name}=max"),
    };
    format!("{} {}", word("hca_handle", from.hca_handles), word("hca_object", from.hca_objects))
}

fn memory(from: Option<&config::Memory>, to: &mut Resources, warnings: &mut Vec<String>) {
    let Some(from) = from else { return };
    // runc cannot tell 0 from not set.
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    to.memory = set(from.limit);
    to.memory_reservation = set(from.reservation);
    to.memory_swap = set(from.swap);
    to.memory_swappiness = from.swappiness;
    to.oom_kill_disable = from.disable_oom_killer;
    if from.kernel.is_some() || from.kernel_tcp.is_some() {
        warnings.push("Kernel memory settings are ignored and will be removed".to_owned());
    }
}

fn cpu(from: Option<&config::Cpu>, to: &mut Resources) {
    let Some(from) = from else { return };
    to.cpu_burst = from.burst;
    to.cpu_idle = from.idle;
    to.cpu_shares = from.shares.filter(|value| *value != 0);
    to.cpu_quota = from.quota.filter(|value| *value != 0);
    to.cpu_period = from.period.filter(|value| *value != 0);
    to.cpu_rt_runtime = from.realtime_runtime.filter(|value| *value != 0);
    to.cpu_rt_period = from.realtime_period.filter(|value| *value != 0);
    to.cpuset_cpus = Some(from.cpus.clone()).filter(|list| !list.is_empty());
    to.cpuset_mems = Some(from.mems.clone()).filter(|list| !list.is_empty());
}

fn block_io(from: Option<&config::BlockIo>, to: &mut Resources) -> OciResult<()> {
    let Some(from) = from else { return Ok(()) };
    let leaf = from.leaf_weight.is_some_and(|weight| weight != 0)
        || from.weight_device.iter().any(|device| device.leaf_weight.is_some_and(|weight| weight != 0));
    if leaf {
        return Err(OciError::Unsupported("linux.resources.blockIO.leafWeight".to_owned()));
    }
    to.blkio_weight = from.weight.filter(|weight| *weight != 0);
    let weights = from.weight_device.iter();
    to.blkio_weight_device = weights
        .map(|device| limit(device.major, device.minor, device.weight.unwrap_or(0).into()))
        .collect::<OciResult<_>>()?;
    to.blkio_read_bps = throttles(&from.throttle_read_bps_device)?;
    to.blkio_write_bps = throttles(&from.throttle_write_bps_device)?;
    to.blkio_read_iops = throttles(&from.throttle_read_iops_device)?;
    to.blkio_write_iops = throttles(&from.throttle_write_iops_device)?;
    Ok(())
}

fn throttles(from: &[config::ThrottleDevice]) -> OciResult<Vec<DeviceLimit>> {
    from.iter().map(|device| limit(device.major, device.minor, device.rate)).collect()
}

fn limit(major: i64, minor: i64, value: u64) -> OciResult<DeviceLimit> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(DeviceLimit { major, minor, value }),
        _ => invalid(format!("invalid block device number {major}:{minor}")),
    }
}

/// Writes the limits of a plan as those of a document.
pub fn document(from: &Resources) -> config::Resources {
    config::Resources {
        devices: from.devices.iter().map(devices::document_rule).collect(),
        memory: some_if_set(config::Memory {
            limit: from.memory,
            reservation: from.memory_reservation,
            swap: from.memory_swap,
            swappiness: from.memory_swappiness,
            disable_oom_killer: from.oom_kill_disable,
            ..Default::default()
        }),
        cpu: some_if_set(config::Cpu {
            shares: from.cpu_shares,
            quota: from.cpu_quota,
            period: from.cpu_period,
            realtime_runtime: from.cpu_rt_runtime,
            realtime_period: from.cpu_rt_period,
            cpus: from.cpuset_cpus.clone().unwrap_or_default(),
            mems: from.cpuset_mems.clone().unwrap_or_default(),
            ..Default::default()
        }),
        pids: from.pids_limit.map(|limit| config::Pids { limit: Some(limit) }),
        block_io: some_if_set(document_block_io(from)),
        hugepage_limits: from
            .hugepage_limits
            .iter()
            .map(|(page_size, limit)| config::HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        unified: from.unified.iter().cloned().collect(),
        ..Default::default()
    }
}

fn some_if_set<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}

fn document_block_io(from: &Resources) -> config::BlockIo {
    let throttle = |limits: &[DeviceLimit]| {
        let device = |l: &DeviceLimit| config::ThrottleDevice {
            major: l.major.into(),
            minor: l.minor.into(),
            rate: l.value,
        };
        limits.iter().map(device).collect::<Vec<_>>()
    };
    let weight = |l: &DeviceLimit| config::WeightDevice {
        major: l.major.into(),
        minor: l.minor.into(),
        weight: Some(u16::try_from(l.value).unwrap_or(u16::MAX)),
        leaf_weight: None,
    };
    config::BlockIo {
        weight: from.blkio_weight,
        leaf_weight: None,
        weight_device: from.blkio_weight_device.iter().map(weight).collect(),
        throttle_read_bps_device: throttle(&from.blkio_read_bps),
        throttle_write_bps_device: throttle(&from.blkio_write_bps),
        throttle_read_iops_device: throttle(&from.blkio_read_iops),
        throttle_write_iops_device: throttle(&from.blkio_write_iops),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> OciResult<Resources> {
        resources_to_plan(&serde_json::from_str(json).unwrap(), &mut Vec::new())
    }

    #[test]
    fn limits_survive_the_way_through_a_document() {
        let planned = parse(
            r#"{"memory":{"limit":67108864,"swap":-1,"reservation":1,"swappiness":0,"disableOOMKiller":true},
            "cpu":{"shares":512,"quota":-1,"period":100000,"cpus":"0-1","mems":"0","realtimeRuntime":5},
            "pids":{"limit":-1},"hugepageLimits":[{"pageSize":"2MB","limit":9}],"unified":{"a":"b"},
            "blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":20}],
              "throttleReadBpsDevice":[{"major":8,"minor":1,"rate":3}],
              "throttleWriteIOPSDevice":[{"major":8,"minor":2,"rate":4}]},
            "devices":[{"allow":true,"type":"b","major":8,"access":"rw"}]}"#,
        )
        .unwrap();
        assert_eq!((planned.memory, planned.memory_swap), (Some(64 << 20), Some(-1)));
        assert_eq!(planned.blkio_write_iops, [DeviceLimit { major: 8, minor: 2, value: 4 }]);
        let json = serde_json::to_string(&document(&planned)).unwrap();
        assert_eq!(parse(&json).unwrap(), planned, "{json}");
    }

    #[test]
    fn zero_is_not_set_and_null_is_nothing() {
        let empty = parse(r#"{"memory":{"limit":0},"cpu":{"shares":0,"cpus":""},"devices":null,"pids":{}}"#);
        assert_eq!(empty.unwrap(), Resources::default());
    }

    #[test]
    fn rarely_used_limits_are_read() {
        let planned = parse(
            r#"{"cpu":{"burst":5,"idle":1},"rdma":{"mlx":{"hcaHandles":3}},
            "network":{"classID":7,"priorities":[{"name":"lo","priority":2}]}}"#,
        )
        .unwrap();
        assert_eq!((planned.cpu_burst, planned.cpu_idle, planned.network_class), (Some(5), Some(1), Some(7)));
        assert_eq!(planned.network_priorities, [("lo".to_owned(), 2)]);
        assert_eq!(planned.rdma, [("mlx".to_owned(), "hca_handle=3 hca_object=max".to_owned())]);
    }

    #[test]
    fn what_has_no_place_is_refused_by_name() {
        for (json, text) in [
            (r#"{"blockIO":{"leafWeight":10}}"#, "linux.resources.blockIO.leafWeight is not supported"),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":1}]}}"#,
                "invalid block device number -1:0",
            ),
        ] {
            assert_eq!(parse(json).unwrap_err().to_string(), text);
        }
        let mut warnings = Vec::new();
        resources_to_plan(&serde_json::from_str(r#"{"memory":{"kernel":1}}"#).unwrap(), &mut warnings)
            .unwrap();
        assert_eq!(warnings, ["Kernel memory settings are ignored and will be removed"]);
    }
}
