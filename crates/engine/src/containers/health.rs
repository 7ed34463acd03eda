//! Health checks: a command run in the container every now and then (source: moby `daemon/health.go`).

use super::{Container, Containers};
use crate::{
    Result, clock,
    exec::{ExecStart, Execs},
    state::Status,
};
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncReadExt;
use wharf_api::{
    container::{ExecCreateRequest, Health, HealthConfig, HealthcheckResult},
    time::Time,
};

const DEFAULT_INTERVAL: i64 = 30_000_000_000;
const DEFAULT_TIMEOUT: i64 = 30_000_000_000;
const DEFAULT_START_INTERVAL: i64 = 5_000_000_000;
const DEFAULT_RETRIES: i64 = 3;
/// Results kept.
const LOG: usize = 5;
/// Bytes of output kept of each.
const OUTPUT: usize = 4096;

impl Containers {
    /// Begins to check a container that has just started, if it has a check.
    pub(super) fn begin_health(&self, container: &Arc<Container>) {
        let Some((config, shell)) = container.with(|state| {
            let config = &state.record.config;
            Some((config.healthcheck.clone()?, config.shell.clone()))
        }) else {
            return;
        };
        let Some(command) = command(&config, shell.as_deref()) else { return };
        container.update(|state| {
            let health = state.health.get_or_insert_default();
            health.status = "starting".into();
            health.failing_streak = 0;
        });
        let task = tokio::spawn(check_for_ever(self.clone(), Arc::clone(container), config, command));
        let before = container.update(|state| state.health_task.replace(task.abort_handle()));
        if let Some(before) = before {
            before.abort();
        }
    }

    /// The container has ended.
    pub(super) fn end_health(&self, container: &Container) {
        let task = container.update(|state| {
            if let Some(health) = &mut state.health {
                health.status = "unhealthy".into();
            }
            state.health_task.take()
        });
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// Program and arguments of a check; `None` for none.
fn command(config: &HealthConfig, shell: Option<&[String]>) -> Option<Vec<String>> {
    let test = config.test.as_deref().unwrap_or_default();
    match test.first().map(String::as_str) {
        Some("CMD") if test.len() > 1 => Some(test[1..].to_vec()),
        Some("CMD-SHELL") if test.len() > 1 => {
            let default = ["/bin/sh".to_owned(), "-c".to_owned()];
            let mut command = shell.filter(|s| !s.is_empty()).unwrap_or(&default).to_vec();
            command.extend_from_slice(&test[1..]);
            Some(command)
        }
        _ => None,
    }
}

fn nanos(value: i64, default: i64) -> Duration {
    Duration::from_nanos(u64::try_from(if value == 0 { default } else { value }).unwrap_or(0))
}

async fn check_for_ever(
    engine: Containers,
    container: Arc<Container>,
    config: HealthConfig,
    command: Vec<String>,
) {
    loop {
        tokio::time::sleep(pause(&container, &config)).await;
        let paused = container.with(|state| matches!(state.status, Status::Paused(_)));
        if paused {
            continue;
        }
        let result = probe(&engine, &container, &command, nanos(config.timeout, DEFAULT_TIMEOUT)).await;
        engine.note_health_check(&result);
        let changed = container.update(|state| {
            let started_at = state.status.facts().started_at?;
            let health = state.health.as_mut()?;
            note(health, result, &config, Time(started_at))
        });
        if let Some(status) = changed {
            engine.emit_plain(&container, &format!("health_status: {status}"));
        }
    }
}

/// While it starts it is checked more often, where a start period is set.
fn pause(container: &Container, config: &HealthConfig) -> Duration {
    let starting = container.with(|state| state.health.as_ref().is_some_and(|h| h.status == "starting"));
    if starting && config.start_period > 0 {
        return nanos(config.start_interval, DEFAULT_START_INTERVAL);
    }
    nanos(config.interval, DEFAULT_INTERVAL)
}

/// Counts a result; the new status where it changes.
fn note(
    health: &mut Health,
    result: HealthcheckResult,
    config: &HealthConfig,
    started: Time,
) -> Option<String> {
    let before = health.status.clone();
    let retries = if config.retries > 0 { config.retries } else { DEFAULT_RETRIES };
    if result.exit_code == 0 {
        health.failing_streak = 0;
        health.status = "healthy".into();
    } else {
        let age = result.start.unix_nanos().saturating_sub(started.unix_nanos());
        // Failures in the start period do not count.
        if health.status != "starting" || age >= config.start_period {
            health.failing_streak += 1;
        }
        if health.failing_streak >= retries {
            health.status = "unhealthy".into();
        }
    }
    let log = health.log.get_or_insert_default();
    log.push(result);
    if log.len() > LOG {
        log.drain(..log.len() - LOG);
    }
    (health.status != before).then(|| health.status.clone())
}

async fn probe(
    engine: &Containers,
    container: &Arc<Container>,
    command: &[String],
    timeout: Duration,
) -> HealthcheckResult {
    let start = Time::now();
    let (exit_code, output) = match run(engine, container, command, timeout).await {
        Ok(Some((code, output))) => (i64::from(code), output),
        Ok(None) => (-1, format!("Health check exceeded timeout ({}s)", timeout.as_secs_f64())),
        Err(error) => (-1, error.to_string()),
    };
    HealthcheckResult { start, end: clock::or_zero(Some(jiff::Timestamp::now())), exit_code, output }
}

/// Exit code and output; `None` when it took too long.
async fn run(
    engine: &Containers,
    container: &Arc<Container>,
    command: &[String],
    timeout: Duration,
) -> Result<Option<(i32, String)>> {
    let execs = Execs::of(engine.clone());
    let request = ExecCreateRequest {
        cmd: Some(command.to_vec()),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecCreateRequest::default()
    };
    let id = execs.create(container.id.as_str(), request).await?;
    let work = async {
        let started = execs.start(id.as_str(), ExecStart::default()).await?;
        let output = match started.stream {
            Some(stream) => read_output(stream).await,
            None => String::new(),
        };
        Ok((execs.wait(id.as_str()).await?, output))
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done.map(Some),
        Err(_) => {
            // It may have ended by itself just now.
            execs.kill(id.as_str()).await.ok();
            Ok(None)
        }
    }
}

/// What both outputs say, without the frames, cut off where it is too long.
async fn read_output(mut stream: tokio::net::UnixStream) -> String {
    let mut output = Vec::new();
    let mut head = [0; 8];
    while stream.read_exact(&mut head).await.is_ok() {
        let size = u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
        let mut frame = (&mut stream).take(size);
        let room = OUTPUT.saturating_sub(output.len()) as u64;
        let kept = (&mut frame).take(room).read_to_end(&mut output).await;
        if kept.is_err() || tokio::io::copy(&mut frame, &mut tokio::io::sink()).await.is_err() {
            break;
        }
    }
    String::from_utf8_lossy(&output).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str]) -> HealthConfig {
        HealthConfig { test: Some(test.iter().map(|s| (*s).into()).collect()), ..Default::default() }
    }

    #[test]
    fn commands() {
        assert_eq!(command(&config(&["CMD", "a", "b"]), None).unwrap(), ["a", "b"]);
        assert_eq!(command(&config(&["CMD-SHELL", "x y"]), None).unwrap(), ["/bin/sh", "-c", "x y"]);
        let shell = ["bash".to_owned(), "-lc".to_owned()];
        assert_eq!(command(&config(&["CMD-SHELL", "x"]), Some(&shell)).unwrap(), ["bash", "-lc", "x"]);
        for none in [&["NONE"][..], &[], &["CMD"]] {
            assert!(command(&config(none), None).is_none());
        }
    }

    #[test]
    fn failures_count_outside_of_the_start_period() {
        let started = Time::from_unix(1000, 0).unwrap();
        let result = |seconds, exit_code| HealthcheckResult {
            start: Time::from_unix(seconds, 0).unwrap(),
            exit_code,
            ..Default::default()
        };
        let config = HealthConfig { start_period: 10_000_000_000, retries: 2, ..Default::default() };
        let mut health = Health { status: "starting".into(), ..Default::default() };
        assert_eq!(note(&mut health, result(1005, 1), &config, started), None);
        assert_eq!(health.failing_streak, 0);
        assert_eq!(note(&mut health, result(1020, 1), &config, started), None);
        assert_eq!(note(&mut health, result(1030, 1), &config, started).as_deref(), Some("unhealthy"));
        assert_eq!(note(&mut health, result(1040, 0), &config, started).as_deref(), Some("healthy"));
        for n in 0..10 {
            note(&mut health, result(1050 + n, 0), &config, started);
        }
        assert_eq!((health.failing_streak, health.log.unwrap().len()), (0, LOG));
    }
}
