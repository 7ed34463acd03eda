//! Prometheus's text format, version 0.0.4.

use super::{BUCKETS, Timer};
use std::{fmt::Write as _, fs};

/// A page being written.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Announces a number that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) {
        self.head(&format!("engine_daemon_{name}"), help, "gauge");
    }

    /// Announces a number that goes up.
    pub(super) fn counter(&mut self, name: &str, help: &str) {
        self.head(&format!("engine_daemon_{name}"), help, "counter");
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One number.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.line(&format!("engine_daemon_{name}"), labels, value);
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let pairs: Vec<String> =
                labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
            let _ = write!(self.0, "{{{}}}", pairs.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// Timers of one family, each with its label's value.
    pub(super) fn histogram<'a>(
        &mut self,
        family: &str,
        help: &str,
        label: &str,
        timers: impl Iterator<Item = (&'a str, &'a Timer)>,
    ) {
        let name = format!("engine_daemon_{family}_seconds");
        let mut timers = timers.peekable();
        if timers.peek().is_none() {
            return;
        }
        self.head(&name, help, "histogram");
        for (value, timer) in timers {
            let mut so_far = 0;
            let ends = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (count, end) in timer.counts.iter().zip(ends) {
                so_far += count;
                self.line(&format!("{name}_bucket"), &[(label, value), ("le", &end)], so_far as f64);
            }
            self.line(&format!("{name}_sum"), &[(label, value)], timer.sum);
            self.line(&format!("{name}_count"), &[(label, value)], so_far as f64);
        }
    }

    /// What Prometheus's Go library tells of a process (source: proc(5)).
    pub(super) fn process(&mut self) {
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: Vec<f64> = status.split(' ').map_while(|n| n.trim().parse().ok()).collect();
        let page = rustix::param::page_size() as f64;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The program's name before it may hold spaces.
        let after = stat.rsplit(") ").next().unwrap_or_default();
        let field = |n: usize| after.split(' ').nth(n).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
        let numbers = [
            (
                "cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
                "counter",
                (field(11) + field(12)) / ticks,
            ),
            ("open_fds", "Number of open file descriptors.", "gauge", descriptors as f64),
            (
                "resident_memory_bytes",
                "Resident memory size in bytes.",
                "gauge",
                pages.get(1).unwrap_or(&0.0) * page,
            ),
            (
                "virtual_memory_bytes",
                "Virtual memory size in bytes.",
                "gauge",
                pages.first().unwrap_or(&0.0) * page,
            ),
        ];
        for (name, help, kind, value) in numbers {
            let name = format!("process_{name}");
            self.head(&name, help, kind);
            self.line(&name, &[], value);
        }
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
