//! Health checks: a command run in the container every now and then (source: moby `daemon/health.go`).

use super::{Container, Containers};
use crate::{
    Error, Result, clock,
    exec::{ExecStart, Execs},
};
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;
use wharf_api::{
    container::{ExecCreateRequest, Health, HealthConfig, HealthcheckResult},
    time::Time,
};
use wharf_spec::duration;

const DEFAULT_INTERVAL: i64 = 30_000_000_000;
const DEFAULT_TIMEOUT: i64 = 30_000_000_000;
const DEFAULT_START_INTERVAL: i64 = 5_000_000_000;
const DEFAULT_RETRIES: i64 = 3;
/// Results kept.
const LOG: usize = 5;
/// Bytes of output kept of each.
const OUTPUT: usize = 4096;
/// The exit code of a check that did not end by itself.
const FAILED: i64 = -1;
/// How long a check may take to start.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a killed check may take to end before the next one begins.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Containers {
    /// Begins to check a container that has just started or was taken over from an earlier daemon, if it has a check.
    pub(super) fn begin_health(&self, container: &Arc<Container>) {
        if check_of(container).is_none() {
            return;
        }
        self.end_health(container);
        container.update(|state| {
            let health = state.health.get_or_insert_default();
            health.status = "starting".into();
            health.failing_streak = 0;
        });
        self.watch_health(container);
    }

    /// Checks from now on, with the status as it is: after a thaw.
    pub(super) fn watch_health(&self, container: &Arc<Container>) {
        let Some(check) = check_of(container) else { return };
        let stop = CancellationToken::new();
        let monitor =
            Monitor { engine: self.clone(), container: Arc::clone(container), check, stop: stop.clone() };
        let before = container.update(|state| state.health_stop.replace(stop));
        if let Some(before) = before {
            before.cancel();
        }
        tokio::spawn(monitor.run());
    }

    /// The container has ended or is frozen: no check from now on, and one under way is killed. As Docker has it, it
    /// is unhealthy then, and no event tells so.
    pub(super) fn end_health(&self, container: &Container) {
        if let Some(stop) = container.update(|state| state.health_stop.take()) {
            stop.cancel();
            self.stay_unchecked(container);
        }
    }

    /// As after [`Self::end_health`], for a container that was found frozen.
    pub(super) fn stay_unchecked(&self, container: &Container) {
        container.update(|state| {
            if let Some(health) = &mut state.health {
                health.status = "unhealthy".into();
            }
        });
    }
}

/// What is run, and how often.
struct Check {
    config: HealthConfig,
    command: Vec<String>,
}

fn check_of(container: &Container) -> Option<Check> {
    container.with(|state| {
        let config = state.record.config.healthcheck.clone()?;
        let command = command(&config, state.record.config.shell.as_deref())?;
        Some(Check { config, command })
    })
}

/// Checks one container until it is told to stop.
struct Monitor {
    engine: Containers,
    container: Arc<Container>,
    check: Check,
    stop: CancellationToken,
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

impl Monitor {
    async fn run(self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.pause()) => {}
            }
            let start = Time::now();
            let Some(probed) = self.probe().await else { return };
            let (exit_code, output) = probed;
            let end = clock::or_zero(Some(jiff::Timestamp::now()));
            self.note(HealthcheckResult { start, end, exit_code, output }).await;
        }
    }

    /// Until the next check. While it starts, within the start period, it is checked more often.
    fn pause(&self) -> Duration {
        let (starting, started_at) = self.container.with(|state| {
            let starting = state.health.as_ref().is_some_and(|h| h.status == "starting");
            (starting, state.status.facts().started_at)
        });
        let age = started_at.map_or(i64::MAX, nanos_since);
        pause(&self.check.config, starting, age)
    }

    async fn note(&self, result: HealthcheckResult) {
        self.engine.note_health_check(&result);
        let changed = self.container.update(|state| {
            if self.stop.is_cancelled() {
                return None;
            }
            let started_at = state.status.facts().started_at?;
            note(state.health.as_mut()?, result, &self.check.config, Time(started_at))
        });
        if let Some(status) = changed {
            self.engine.emit_plain(&self.container, &format!("health_status: {status}"));
            self.container.save_or_warn().await;
        }
    }

    /// Exit code and output of a check; `None` when it was told to stop meanwhile.
    async fn probe(&self) -> Option<(i64, String)> {
        let execs = Execs::of(self.engine.clone());
        let request = ExecCreateRequest {
            cmd: Some(self.check.command.clone()),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecCreateRequest::default()
        };
        let id = match execs.create(self.container.id.as_str(), request).await {
            Ok(id) => id,
            Err(error) => return Some((FAILED, error.to_string())),
        };
        let probed = tokio::select! {
            probed = self.run_exec(&execs, id.as_str()) => Some(probed),
            () = self.stop.cancelled() => None,
        };
        match probed {
            None => {
                kill(&execs, id.as_str()).await;
                None
            }
            Some(Ok(probed)) => Some(probed),
            Some(Err(error)) => Some((FAILED, error.to_string())),
        }
    }

    async fn run_exec(&self, execs: &Execs, id: &str) -> Result<(i64, String)> {
        // The time to start is not the check's own.
        let started = tokio::time::timeout(START_PATIENCE, execs.start(id, ExecStart::default())).await;
        let started = started.map_err(|_| {
            Error::Refused(format!("timed out starting health check for container {}", self.container.id))
        })??;
        let mut output = Output::default();
        let work = async {
            if let Some(stream) = started.stream {
                output.read(stream).await;
            }
            execs.wait(id).await
        };
        let timeout = nanos(self.check.config.timeout, DEFAULT_TIMEOUT);
        if let Ok(ended) = tokio::time::timeout(timeout, work).await {
            return Ok((i64::from(ended?), output.text()));
        }
        kill(execs, id).await;
        let said = output.text();
        let colon = if said.is_empty() { "" } else { ": " };
        let limit = duration::format(i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX));
        Ok((FAILED, format!("Health check exceeded timeout ({limit}){colon}{said}")))
    }
}

/// Kills a check and waits until it is gone, so that dying ones do not pile up.
async fn kill(execs: &Execs, id: &str) {
    // It may have ended by itself just now, or with its container.
    execs.kill(id).await.ok();
    tokio::time::timeout(KILL_PATIENCE, execs.wait(id)).await.ok();
}

fn nanos_since(time: jiff::Timestamp) -> i64 {
    i64::try_from(jiff::Timestamp::now().duration_since(time).as_nanos()).unwrap_or(i64::MAX)
}

/// The pause before the next check of a container that has run for so many nanoseconds.
fn pause(config: &HealthConfig, starting: bool, age: i64) -> Duration {
    match starting && age < config.start_period {
        true => nanos(config.start_interval, DEFAULT_START_INTERVAL),
        false => nanos(config.interval, DEFAULT_INTERVAL),
    }
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

/// What both outputs say, cut off where it is too long.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Output {
    /// Reads frames to their end.
    async fn read(&mut self, mut stream: tokio::net::UnixStream) {
        let mut head = [0; 8];
        while stream.read_exact(&mut head).await.is_ok() {
            let size = u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
            let mut frame = (&mut stream).take(size);
            let room = OUTPUT.saturating_sub(self.bytes.len()) as u64;
            let kept = (&mut frame).take(room).read_to_end(&mut self.bytes).await;
            let lost = tokio::io::copy(&mut frame, &mut tokio::io::sink()).await;
            self.truncated |= lost.as_ref().is_ok_and(|lost| *lost > 0);
            if kept.is_err() || lost.is_err() {
                break;
            }
        }
    }

    fn text(&self) -> String {
        let end = if self.truncated { "..." } else { "" };
        String::from_utf8_lossy(&self.bytes).into_owned() + end
    }
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
    fn checks_are_more_frequent_while_it_starts() {
        const SECOND: i64 = 1_000_000_000;
        let config = HealthConfig { start_period: 60 * SECOND, interval: 20 * SECOND, ..Default::default() };
        let seconds = |config: &_, starting, age| pause(config, starting, age * SECOND).as_secs();
        assert_eq!(seconds(&config, true, 59), 5);
        assert_eq!(seconds(&config, true, 60), 20, "the period is over");
        assert_eq!(seconds(&config, false, 1), 20, "it is healthy");
        let config = HealthConfig { start_interval: 2 * SECOND, ..config };
        assert_eq!(seconds(&config, true, 1), 2);
        assert_eq!(seconds(&HealthConfig::default(), true, 1), 30);
    }

    #[tokio::test]
    async fn output_is_cut_off() {
        use tokio::io::AsyncWriteExt;
        for (size, wanted) in [(10, 10), (OUTPUT, OUTPUT), (OUTPUT + 1, OUTPUT + 3)] {
            let (mut ours, theirs) = tokio::net::UnixStream::pair().unwrap();
            let half = u32::try_from(size / 2).unwrap();
            for size in [half, u32::try_from(size).unwrap() - half] {
                let mut frame = vec![1, 0, 0, 0];
                frame.extend(size.to_be_bytes());
                frame.resize(8 + size as usize, b'x');
                ours.write_all(&frame).await.unwrap();
            }
            drop(ours);
            let mut output = Output::default();
            output.read(theirs).await;
            let text = output.text();
            assert_eq!((text.len(), text.ends_with("...")), (wanted, size > OUTPUT), "{size}");
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
