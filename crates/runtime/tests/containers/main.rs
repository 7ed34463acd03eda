//! Containers, really made: as root, with busybox, on this machine's kernel. Run without the test harness,
//! which has threads; words on the command line choose tests by a part of their name.

mod errors;
mod exec;
mod fixture;
mod isolation;
mod life;
mod mounts;
mod namespaces;

use std::panic::catch_unwind;

type Test = (&'static str, fn());

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let groups: [&[Test]; 6] =
        [life::TESTS, isolation::TESTS, mounts::TESTS, namespaces::TESTS, errors::TESTS, exec::TESTS];
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, test) in groups.into_iter().flatten() {
        if !chosen.is_empty() && !chosen.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        fixture::begin();
        match catch_unwind(test).and_then(|()| catch_unwind(fixture::check_leaks)) {
            Ok(()) => passed += 1,
            Err(_) => failed.push(*name),
        }
        println!("test {name} ... {}", if failed.last() == Some(name) { "FAILED" } else { "ok" });
    }
    fixture::end();
    println!("containers: {passed} passed, {} failed {failed:?}", failed.len());
    std::process::exit(i32::from(!failed.is_empty()));
}
