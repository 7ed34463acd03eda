//! Containers write lines of all sizes while the daemon is killed again and again: every line is there once and in
//! order. A few seconds; a minute with twenty containers under `WHARF_FULL=1`.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    time::{Duration, Instant},
};
use wharf_testkit::{Daemon, until};

/// Number of a line, then so many letters: none, short, middling, and longer than one entry of a log holds.
const LENGTHS: [usize; 4] = [0, 90, 1500, 40_000];

/// Which of [`LENGTHS`] a line has: rarely the longest.
fn kind(line: usize) -> usize {
    match line % 50 {
        49 => 3,
        rest if rest % 7 == 6 => 2,
        rest if rest % 3 == 0 => 0,
        _ => 1,
    }
}

/// Writes until a file appears, and says how many lines that were.
const SCRIPT: &str = r#"
pad() { head -c "$1" /dev/zero | tr '\0' x; }
S=$(pad 90); M=$(pad 1500); L=$(pad 40000); i=0
while [ ! -e /stop/now ]; do
  r=$((i % 50))
  if [ $r = 49 ]; then p=$L; sleep 0.01
  elif [ $((r % 7)) = 6 ]; then p=$M
  elif [ $((r % 3)) = 0 ]; then p=
  else p=$S; fi
  echo "$i$p"
  i=$((i + 1))
done
echo "end $i"
"#;

const LOGS: [&[&str]; 4] = [
    &["--log-opt", "max-size=-1"],
    &["--log-opt", "max-size=1m", "--log-opt", "max-file=1000"],
    &["--log-driver=local", "--log-opt", "max-size=1m", "--log-opt", "max-file=1000"],
    &["--log-opt", "max-size=500k", "--log-opt", "max-file=1000", "--log-opt", "compress=true"],
];

#[test]
fn every_line_is_there_once_and_in_order() -> Result<()> {
    let is_full = std::env::var_os("WHARF_FULL").is_some_and(|value| value == "1");
    let (containers, time) =
        if is_full { (20, Duration::from_secs(60)) } else { (4, Duration::from_secs(5)) };
    let mut daemon = Daemon::with_busybox()?;
    let stop = daemon.dir().join("stop");
    fs::create_dir(&stop)?;
    let volume = format!("{}:/stop", stop.display());
    let names: Vec<String> = (0..containers).map(|n| format!("w{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let args = ["run", "-d", "--name", name, "--network=none", "-v", &volume];
        let program = ["busybox", "sh", "-c", SCRIPT];
        daemon.docker(&[&args[..], LOGS[n % LOGS.len()], &program].concat())?.ok()?;
    }
    let (start, mut kills) = (Instant::now(), 0);
    let last = |daemon: &Daemon| daemon.docker(&["logs", "--tail=1", "w0"])?.ok();
    while start.elapsed() < time {
        // It has seen something of this daemon's time before that ends.
        let seen = last(&daemon)?;
        until("more lines", || Ok(Some(last(&daemon)?).filter(|line| *line != seen)))?;
        daemon.kill9()?;
        kills += 1;
        daemon.launch()?;
    }
    fs::write(stop.join("now"), "")?;
    let mut lines = 0;
    for name in &names {
        daemon.docker(&["wait", name])?.ok()?;
        lines += check(name, &daemon.docker(&["logs", name])?.ok()?)?;
    }
    println!("{lines} lines of {containers} containers, the daemon killed {kills} times");
    daemon.stop()
}

/// How many lines there are, if they are those that were written.
fn check(name: &str, log: &str) -> Result<usize> {
    let mut count = 0;
    for line in log.lines() {
        if let Some(written) = line.strip_prefix("end ") {
            ensure!(written.parse() == Ok(count), "{name}: {count} lines of {written}");
            ensure!(log.ends_with(&format!("{line}\n")), "{name}: something after the end");
            return Ok(count);
        }
        let number = line.trim_end_matches('x');
        ensure!(number.parse() == Ok(count), "{name}: {number} instead of {count}");
        ensure!(line.len() - number.len() == LENGTHS[kind(count)], "{name}: line {count} is cut");
        count += 1;
    }
    None.with_context(|| format!("{name}: no end after {count} lines"))
}
