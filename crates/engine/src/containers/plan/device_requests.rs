//! `--gpus` and CDI: which driver gives the devices of a request (source: moby `daemon/devices.go`,
//! `daemon/cdi.go`, `daemon/devices_nvidia_linux.go`, `daemon/devices_amd_linux.go`).

use super::runtime::find;
use crate::{Config, Error, Result, cdi::Registry};
use std::path::{Path, PathBuf};
use wharf_api::container::{DeviceRequest, HostConfig};
use wharf_spec::plan::{Hook, Plan};

/// What each driver is asked for by; the first that has all of a list is taken.
const NVIDIA: [&str; 8] = ["gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"];
const AMD: [&str; 2] = ["gpu", "amd"];

/// NVIDIA's own among these: its hook hears of them.
const NVIDIA_DRIVER: [&str; 6] = ["compute", "compat32", "graphics", "utility", "video", "display"];

/// Programs that a vendor's toolkit installs.
const NVIDIA_CDI_HOOK: &str = "nvidia-cdi-hook";
const NVIDIA_RUNTIME_HOOK: &str = "nvidia-container-runtime-hook";
const AMD_RUNTIME: &str = "amd-container-runtime";

/// Gives a container what it requests.
///
/// # Errors
/// In Docker's words, with status 500 as its start has.
pub(super) fn give(plan: &mut Plan, engine: &Config, host: &HostConfig) -> Result<()> {
    let requests = host.device_requests.as_deref().unwrap_or_default();
    if requests.is_empty() {
        return Ok(());
    }
    let drivers = Drivers::find(engine);
    for request in requests {
        drivers.give(plan, request).map_err(Error::Refused)?;
    }
    Ok(())
}

/// What this host has now.
struct Drivers {
    /// `None` without directories of specifications.
    cdi: Option<Registry>,
    nvidia_cdi_hook: Option<PathBuf>,
    nvidia_runtime_hook: Option<PathBuf>,
    amd_runtime: Option<PathBuf>,
}

/// Whose GPUs are asked for.
#[derive(Clone, Copy)]
enum Vendor {
    Nvidia,
    Amd,
}

impl Drivers {
    fn find(engine: &Config) -> Self {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let program = |name: &str| find(Path::new(name), &search);
        Self {
            cdi: (!engine.cdi_spec_dirs.is_empty()).then(|| Registry::read(&engine.cdi_spec_dirs)),
            nvidia_cdi_hook: program(NVIDIA_CDI_HOOK),
            nvidia_runtime_hook: program(NVIDIA_RUNTIME_HOOK),
            amd_runtime: program(AMD_RUNTIME),
        }
    }

    fn has_nvidia(&self) -> bool {
        self.nvidia_cdi_hook.is_some() || self.nvidia_runtime_hook.is_some()
    }

    /// AMD's driver is there where its devices are. Docker has it wherever CDI is on, which makes a host without
    /// any GPU speak of vendors instead of drivers.
    fn has_amd(&self) -> bool {
        !self.has_nvidia()
            && (self.amd_runtime.is_some() || self.cdi.as_ref().is_some_and(|cdi| cdi.has_vendor("amd.com")))
    }

    fn give(&self, plan: &mut Plan, request: &DeviceRequest) -> Result<(), String> {
        match request.driver.as_str() {
            "" if self.has_nvidia() && selected(request, &NVIDIA).is_some() => {
                self.gpus(plan, request, Vendor::Nvidia)
            }
            "" if self.has_amd() && selected(request, &AMD).is_some() => {
                self.gpus(plan, request, Vendor::Amd)
            }
            "nvidia" if self.has_nvidia() => self.gpus(plan, request, Vendor::Nvidia),
            "amd" if self.has_amd() => self.gpus(plan, request, Vendor::Amd),
            "nvidia.cdi" if self.nvidia_cdi_hook.is_some() => self.by_cdi(plan, request, "nvidia.com/gpu"),
            "nvidia.runtime-hook" if self.nvidia_runtime_hook.is_some() => self.by_nvidia_hook(plan, request),
            "cdi" if self.cdi.is_some() => self.cdi_devices(plan, request),
            _ => Err(incompatible(request)),
        }
    }

    /// CDI first, then the vendor's older way.
    fn gpus(&self, plan: &mut Plan, request: &DeviceRequest, vendor: Vendor) -> Result<(), String> {
        let mut errors = Vec::new();
        let (cdi, kind) = match vendor {
            Vendor::Nvidia => (self.nvidia_cdi_hook.is_some(), "nvidia.com/gpu"),
            Vendor::Amd => (self.cdi.as_ref().is_some_and(|cdi| cdi.has_vendor("amd.com")), "amd.com/gpu"),
        };
        if cdi {
            match self.by_cdi(plan, request, kind) {
                Ok(()) => return Ok(()),
                Err(why) => errors.push(why),
            }
        }
        let older = match vendor {
            Vendor::Nvidia if self.nvidia_runtime_hook.is_some() => self.by_nvidia_hook(plan, request),
            Vendor::Amd if self.amd_runtime.is_some() => by_amd_runtime(plan, request),
            _ => return Err(errors.join("\n")),
        };
        older.map_err(|why| {
            errors.push(why);
            errors.join("\n")
        })
    }

    fn cdi_devices(&self, plan: &mut Plan, request: &DeviceRequest) -> Result<(), String> {
        if request.count != 0 {
            return Err("unexpected count in CDI device request".into());
        }
        if request.options.as_ref().is_some_and(|options| !options.is_empty()) {
            return Err("unexpected options in CDI device request".into());
        }
        let names = request.device_ids.as_deref().unwrap_or_default();
        self.inject(plan, names)
    }

    /// GPUs by number as CDI devices; a name that has its kind is taken as it is.
    fn by_cdi(&self, plan: &mut Plan, request: &DeviceRequest, kind: &str) -> Result<(), String> {
        let ids = device_ids(request)?;
        if ids.is_empty() {
            return Ok(());
        }
        if self.cdi.is_none() {
            return Err(format!("no CDI device driver registered: {}", incompatible(request)));
        }
        let names: Vec<String> =
            ids.into_iter().map(|id| if id.contains('=') { id } else { format!("{kind}={id}") }).collect();
        self.inject(plan, &names)
    }

    fn inject(&self, plan: &mut Plan, names: &[String]) -> Result<(), String> {
        let Some(cdi) = self.cdi.as_ref().filter(|_| !names.is_empty()) else { return Ok(()) };
        // A device that cannot be given leaves the plan as it was: another driver may try.
        let mut given = plan.clone();
        cdi.inject(&mut given, names).map_err(|why| format!("CDI device injection failed: {why}"))?;
        *plan = given;
        Ok(())
    }

    fn by_nvidia_hook(&self, plan: &mut Plan, request: &DeviceRequest) -> Result<(), String> {
        let ids = device_ids(request)?;
        let Some(hook) = self.nvidia_runtime_hook.as_ref().filter(|_| !ids.is_empty()) else { return Ok(()) };
        plan.process.env.push(format!("NVIDIA_VISIBLE_DEVICES={}", ids.join(",")));
        let wanted = selected(request, &NVIDIA).unwrap_or_default();
        let own: Vec<&str> =
            wanted.iter().map(String::as_str).filter(|name| NVIDIA_DRIVER.contains(name)).collect();
        if !own.is_empty() {
            plan.process.env.push(format!("NVIDIA_DRIVER_CAPABILITIES={}", own.join(",")));
        }
        plan.hooks.prestart.push(Hook {
            path: hook.to_string_lossy().into_owned(),
            args: vec![NVIDIA_RUNTIME_HOOK.into(), "prestart".into()],
            env: std::env::vars().map(|(name, value)| format!("{name}={value}")).collect(),
            timeout: None,
        });
        Ok(())
    }
}

/// AMD's own runtime reads which devices are meant.
fn by_amd_runtime(plan: &mut Plan, request: &DeviceRequest) -> Result<(), String> {
    let ids = device_ids(request)?;
    let shown = if ids.is_empty() { "void".to_owned() } else { ids.join(",") };
    plan.process.env.push(format!("AMD_VISIBLE_DEVICES={shown}"));
    Ok(())
}

/// The first list of which a driver has everything (source: moby `daemon/internal/capabilities`).
fn selected<'a>(request: &'a DeviceRequest, has: &[&str]) -> Option<&'a [String]> {
    let mut lists = request.capabilities.iter().flatten();
    lists.find(|list| list.iter().all(|name| has.contains(&name.as_str()))).map(Vec::as_slice)
}

fn device_ids(request: &DeviceRequest) -> Result<Vec<String>, String> {
    let named = request.device_ids.as_deref().unwrap_or_default();
    match request.count {
        0 => Ok(named.to_vec()),
        _ if !named.is_empty() => Err("cannot set both Count and DeviceIDs on device request".into()),
        count if count < 0 => Ok(vec!["all".into()]),
        // No machine has more, and a request must not cost memory.
        count => Ok((0..count.min(4096)).map(|n| n.to_string()).collect()),
    }
}

/// Source: moby `daemon/errors.go`, incompatibleDeviceRequest.
fn incompatible(request: &DeviceRequest) -> String {
    let any = request.capabilities.iter().flatten().map(|all| format!("[{}]", all.join(" ")));
    let any = any.collect::<Vec<_>>().join(" ");
    format!("could not select device driver {:?} with capabilities: [{any}]", request.driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(driver: &str, count: i64, ids: &[&str], capabilities: &[&[&str]]) -> DeviceRequest {
        let texts = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        DeviceRequest {
            driver: driver.into(),
            count,
            device_ids: (!ids.is_empty()).then(|| texts(ids)),
            capabilities: Some(capabilities.iter().map(|list| texts(list)).collect()),
            options: None,
        }
    }

    #[test]
    fn drivers_are_chosen_by_what_they_have() {
        let wants = |lists: &[&[&str]]| selected(&request("", -1, &[], lists), &NVIDIA).map(<[String]>::len);
        assert_eq!(wants(&[&["gpu", "amd"], &["gpu", "compute"], &["gpu"]]), Some(2));
        assert_eq!(wants(&[&["tpu"]]), None);
        assert_eq!(wants(&[]), None);
        assert_eq!(
            incompatible(&request("", -1, &[], &[&["gpu", "nvidia"], &["x"]])),
            "could not select device driver \"\" with capabilities: [[gpu nvidia] [x]]"
        );
    }

    #[test]
    fn devices_are_counted_or_named() {
        assert_eq!(device_ids(&request("", 2, &[], &[])).unwrap(), ["0", "1"]);
        assert_eq!(device_ids(&request("", -1, &[], &[])).unwrap(), ["all"]);
        assert_eq!(device_ids(&request("", 0, &["a", "b"], &[])).unwrap(), ["a", "b"]);
        assert!(device_ids(&request("", 1, &["a"], &[])).is_err());
    }
}
