//! End-to-end tests: real daemons, the stock `docker` CLI and ours, the kernel as root.
//!
//! One binary, since linking is what costs; files are named `<noun>_<verb>.rs`. Each test starts its own
//! daemon (see `wharf_testkit::Daemon`) and ends with `stop()`, which asserts that nothing is left.
#![forbid(unsafe_code)]

mod adoption;
mod api_errors;
mod api_transcript;
mod build_wharf;
mod cgroup_systemd;
mod cli_wharf;
mod container_attach;
mod container_attach_streams;
mod container_cp;
mod container_cp_rules;
mod container_diff;
mod container_exec;
mod container_health;
mod container_lifecycle;
mod container_limits;
mod container_log_drivers;
mod container_logs;
mod container_names;
mod container_options;
mod container_resources;
mod container_restart;
mod container_run;
mod cve;
mod cve_copy;
mod cve_images;
mod cve_runtime;
mod cycles;
mod daemon_flags;
mod daemon_options;
mod daemon_reload;
mod daemon_repair;
mod daemon_restart;
mod daemon_shutdown;
mod debian_web;
mod fault_containers;
mod fault_disk;
mod fault_images;
mod fault_verbs;
mod image_commit;
mod image_hostile;
mod image_import;
mod image_load;
mod image_pull;
mod image_pull_faults;
mod image_push;
mod image_remove;
mod image_save;
mod log_soak;
mod manifest_lists;
mod network_names;
mod network_publish;
mod registry_auth;
mod registry_login;
mod registry_search;
mod runtime_cli;
mod runtime_external;
mod runtime_guest;
mod security;
mod soak;
mod system_info;
mod userns;
mod userns_mounts;
