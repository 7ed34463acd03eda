//! Reading what the writer wrote, while it writes, and after accidents.

use super::*;
use crate::writer::Writer;
use std::fs;
use std::io::Write;
use std::path::Path;
use wharf_spec::plan::{Log, LogFile};

fn options(path: &Path, format: Format) -> ReadOptions {
    ReadOptions { path: path.into(), format, tail: None, since: None, until: None, follow: Follow::No }
}

fn writer(path: &Path, format: Format, edit: impl FnOnce(&mut LogFile)) -> Writer {
    let mut file = LogFile {
        path: path.to_str().unwrap().into(),
        max_size: None,
        max_files: 1,
        compress: false,
        attrs: vec![("k".into(), "v".into())],
    };
    edit(&mut file);
    let log = match format {
        Format::Json => Log::JsonFile(file),
        Format::Local => Log::Local(file),
    };
    Writer::open(&log).unwrap().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// Reads to the end or to `Pending`.
fn lines(reader: &mut Reader) -> Vec<String> {
    let mut out = Vec::new();
    while let Next::Entry(entry) = reader.poll_next().unwrap() {
        out.push(String::from_utf8(entry.line.to_vec()).unwrap().trim_end().to_string());
    }
    out
}

fn read(options: ReadOptions) -> Vec<String> {
    lines(&mut Reader::open(options).unwrap())
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

fn write_numbers(writer: &mut Writer, range: std::ops::Range<u32>) {
    for n in range {
        writer.write(Stream::Stdout, format!("line {n}\n").as_bytes(), at(i64::from(n)));
    }
}

const FORMATS: [Format; 2] = [Format::Json, Format::Local];

#[test]
fn entries_come_back_whole() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut w = writer(&path, format, |_| {});
        w.write(Stream::Stdout, b"out\n", at(1));
        w.write(Stream::Stderr, b"<err>\xff", at(2));
        w.finish(Stream::Stderr, at(3));
        let mut reader = Reader::open(options(&path, format)).unwrap();
        let attrs = [("k".to_string(), "v".to_string())];
        let want =
            Entry { stream: Stream::Stdout, time: at(1), line: b"out\n", partial: None, attrs: &attrs };
        assert_eq!(reader.poll_next().unwrap(), Next::Entry(want));
        let Next::Entry(second) = reader.poll_next().unwrap() else { panic!("second entry") };
        assert_eq!((second.stream, second.time), (Stream::Stderr, at(3)));
        match format {
            Format::Json => assert_eq!(second.line, "<err>\u{fffd}".as_bytes()),
            Format::Local => {
                assert_eq!(second.line, b"<err>\xff");
                assert_eq!(second.partial.map(|p| (p.last, p.ordinal)), Some((false, 1)));
            }
        }
        assert_eq!(reader.poll_next().unwrap(), Next::End);
        assert_eq!(reader.damaged(), 0);
    }
}

#[test]
fn no_file_is_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    assert!(read(options(&path, Format::Json)).is_empty());
    let mut reader =
        Reader::open(ReadOptions { follow: Follow::Yes, ..options(&path, Format::Json) }).unwrap();
    assert_eq!(reader.poll_next().unwrap(), Next::Pending);
    write_numbers(&mut writer(&path, Format::Json, |_| {}), 0..2);
    assert_eq!(lines(&mut reader), numbers(0..2));
}

#[test]
fn tail_counts_over_rotated_and_compressed_files() {
    for format in FORMATS {
        for compress in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let mut w = writer(&path, format, |f| {
                f.max_size = Some(2000);
                f.max_files = 5;
                f.compress = compress;
            });
            write_numbers(&mut w, 0..300);
            drop(w);
            let extension = if compress { ".gz" } else { "" };
            assert!(crate::file::numbered(&path, 4, extension).exists());
            assert!(!crate::file::numbered(&path, 5, extension).exists());
            let all = read(options(&path, format));
            let kept = all.len() as u32;
            assert!(kept > 60 && kept < 300);
            assert_eq!(all, numbers(300 - kept..300));
            for tail in [0, 1, 5, 20, 21, 22, 40, 60, kept - 1, kept, kept + 1] {
                let got = read(ReadOptions { tail: Some(tail.into()), ..options(&path, format) });
                assert_eq!(got, numbers(300 - tail.min(kept)..300), "{format:?} {compress} {tail}");
            }
            let got = read(ReadOptions { since: Some(at(280)), ..options(&path, format) });
            assert_eq!(got, numbers(280..300));
            let got = read(ReadOptions { tail: Some(50), until: Some(at(270)), ..options(&path, format) });
            assert_eq!(got, numbers(250..271));
        }
    }
}

#[test]
fn rotation_keeps_docker_s_sizes_and_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut w = writer(&path, Format::Json, |f| {
        f.max_size = Some(500);
        f.max_files = 3;
    });
    // In one batch: rotation happens between entries, not between batches.
    let text: String = (0..50).map(|n| format!("line {n}\n")).collect();
    w.write(Stream::Stdout, text.as_bytes(), at(1));
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    for old in ["log.1", "log.2"] {
        let text = fs::read_to_string(dir.path().join(old)).unwrap();
        let last = text.lines().last().unwrap().len() + 1;
        assert!(text.len() >= 500 && text.len() - last < 500, "{}", text.len());
    }
    // With one file only it is replaced.
    let path = dir.path().join("single");
    let mut w = writer(&path, Format::Json, |f| f.max_size = Some(500));
    w.write(Stream::Stdout, text.as_bytes(), at(1));
    assert!(fs::metadata(&path).unwrap().len() < 600);
    assert!(!dir.path().join("single.1").exists());
}

#[test]
fn compressed_files_are_gzip_with_the_last_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut w = writer(&path, Format::Json, |f| {
        f.max_size = Some(500);
        f.max_files = 3;
        f.compress = true;
    });
    write_numbers(&mut w, 0..8);
    while w.upkeep() == crate::Upkeep::More {}
    assert!(!dir.path().join("log.1").exists());
    let file = fs::File::open(dir.path().join("log.1.gz")).unwrap();
    let decoder = flate2::read::GzDecoder::new(file);
    let extra = String::from_utf8(decoder.header().unwrap().extra().unwrap().to_vec()).unwrap();
    assert_eq!(extra, "{\"lastTime\":\"1970-01-01T00:00:05Z\"}");
    assert_eq!(std::io::read_to_string(decoder).unwrap().lines().count(), 6);
}

#[test]
fn follow_loses_nothing_over_rotations() {
    for format in FORMATS {
        for max_files in [2, 6] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let mut w = writer(&path, format, |f| {
                f.max_size = Some(1000);
                f.max_files = max_files;
            });
            let follow = ReadOptions { follow: Follow::Yes, ..options(&path, format) };
            let mut reader = Reader::open(follow).unwrap();
            let mut got = Vec::new();
            // With six files, three rotations at a time can be caught up with; with two, one.
            let step = if max_files == 6 { 30 } else { 5 };
            for start in (0..300).step_by(step) {
                write_numbers(&mut w, start..start + step as u32);
                got.extend(lines(&mut reader));
            }
            assert_eq!(got, numbers(0..300), "{format:?} {max_files}");
            reader.finish();
            assert_eq!(reader.poll_next().unwrap(), Next::End);
        }
    }
}

#[test]
fn follow_with_tail_zero_starts_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut w = writer(&path, Format::Json, |_| {});
    write_numbers(&mut w, 0..10);
    let follow = ReadOptions { follow: Follow::Yes, tail: Some(0), ..options(&path, Format::Json) };
    let mut reader = Reader::open(follow).unwrap();
    assert_eq!(reader.poll_next().unwrap(), Next::Pending);
    write_numbers(&mut w, 10..12);
    assert_eq!(lines(&mut reader), numbers(10..12));
}

#[test]
fn the_watch_wakes_for_writes_and_is_quiet_otherwise() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let ready = |reader: &Reader| {
        let fd = reader.wakeup().unwrap();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut w = writer(&path, Format::Json, |_| {});
    let mut reader =
        Reader::open(ReadOptions { follow: Follow::Yes, ..options(&path, Format::Json) }).unwrap();
    assert_eq!(reader.poll_next().unwrap(), Next::Pending);
    assert!(!ready(&reader));
    write_numbers(&mut w, 0..1);
    assert!(ready(&reader));
    assert_eq!(lines(&mut reader), numbers(0..1));
    assert!(!ready(&reader));
}

#[test]
fn readers_keep_up_with_a_writer_that_rotates_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut w = writer(&path, Format::Json, |f| {
        f.max_size = Some(20_000);
        f.max_files = 4;
        f.compress = true;
    });
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for start in (0..20_000).step_by(50) {
                let text: String = (start..start + 50).map(|n| format!("line {n}\n")).collect();
                w.write(Stream::Stdout, text.as_bytes(), at(1));
                w.upkeep();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        // Whatever moment a reader comes at, it gets whole lines in order, up to an end that only grows.
        let mut newest = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let mut reader =
                Reader::open(ReadOptions { tail: Some(700), ..options(&path, Format::Json) }).unwrap();
            let got: Vec<u32> = lines(&mut reader).iter().map(|l| l[5..].parse().unwrap()).collect();
            assert!(got.is_sorted(), "out of order");
            if let Some(last) = got.last() {
                assert!(*last >= newest);
                newest = *last;
            }
        }
    });
    assert_eq!(read(ReadOptions { tail: Some(3), ..options(&path, Format::Json) }), numbers(19_997..20_000));
}

#[test]
fn a_torn_end_is_skipped_and_repaired_at_the_next_open() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write_numbers(&mut writer(&path, format, |_| {}), 0..10);
        let whole = fs::read(&path).unwrap();
        for cut in [1, 3, 5, 30] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let mut reader = Reader::open(options(&path, format)).unwrap();
            assert_eq!(lines(&mut reader), numbers(0..9), "{format:?} {cut}");
            assert_eq!(reader.damaged(), 1);
            let mut reader = Reader::open(ReadOptions { tail: Some(2), ..options(&path, format) }).unwrap();
            assert_eq!(lines(&mut reader), numbers(7..9));
            write_numbers(&mut writer(&path, format, |_| {}), 9..11);
            let mut reader = Reader::open(options(&path, format)).unwrap();
            assert_eq!(lines(&mut reader), numbers(0..11));
            assert_eq!(reader.damaged(), 0);
        }
    }
}

#[test]
fn damage_in_the_middle_costs_only_what_is_damaged() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write_numbers(&mut writer(&path, format, |_| {}), 0..10);
        let start = fs::read(&path).unwrap();
        for junk in [&b"\0\0\0\0\0\0\0"[..], b"garbage", &[0xff; 5000]] {
            fs::write(&path, &start).unwrap();
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            file.write_all(junk).unwrap();
            if format == Format::Json {
                file.write_all(b"\n").unwrap();
            }
            // Opening must not cut off what follows, so the rest is copied in.
            file.write_all(&start).unwrap();
            let mut reader = Reader::open(options(&path, format)).unwrap();
            assert_eq!(lines(&mut reader), [numbers(0..10), numbers(0..10)].concat(), "{format:?}");
            assert_eq!(reader.damaged(), 1);
        }
    }
}

#[test]
fn an_endless_line_is_passed_over_in_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write_numbers(&mut writer(&path, Format::Json, |_| {}), 0..1);
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(&vec![b'x'; 5 << 20]).unwrap();
    file.write_all(b"\n").unwrap();
    drop(file);
    write_numbers(&mut writer(&path, Format::Json, |_| {}), 1..2);
    let mut reader = Reader::open(options(&path, Format::Json)).unwrap();
    assert_eq!(lines(&mut reader), numbers(0..2));
    assert_eq!(reader.damaged(), 1);
}

#[test]
fn a_log_emptied_in_place_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut w = writer(&path, Format::Json, |_| {});
    write_numbers(&mut w, 0..10);
    let mut reader =
        Reader::open(ReadOptions { follow: Follow::Yes, ..options(&path, Format::Json) }).unwrap();
    assert_eq!(lines(&mut reader), numbers(0..10));
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(reader.poll_next().unwrap(), Next::Pending);
    write_numbers(&mut w, 10..12);
    assert_eq!(lines(&mut reader), numbers(10..12));
}

#[test]
fn an_entry_taken_back_by_the_writer_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut w = writer(&path, Format::Json, |_| {});
    write_numbers(&mut w, 0..10);
    let size = fs::metadata(&path).unwrap().len();
    fs::File::options().append(true).open(&path).unwrap().write_all(b"{\"log\":\"to").unwrap();
    let mut reader =
        Reader::open(ReadOptions { follow: Follow::Yes, ..options(&path, Format::Json) }).unwrap();
    assert_eq!(lines(&mut reader), numbers(0..10));
    fs::File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
    assert_eq!(reader.poll_next().unwrap(), Next::Pending);
    write_numbers(&mut w, 10..12);
    assert_eq!(lines(&mut reader), numbers(10..12));
    assert_eq!(reader.damaged(), 0);
}

#[test]
fn a_full_disk_loses_bytes_but_tears_nothing() {
    // /dev/full cannot be cut off; a file size limit does the same to a regular file, but per process.
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("full");
    std::os::unix::fs::symlink("/dev/full", &target).unwrap();
    let mut w = writer(&target, Format::Json, |_| {});
    w.write(Stream::Stdout, b"12345\n678\n", at(1));
    assert_eq!(w.lost(), 10);
    w.write(Stream::Stdout, b"9", at(1));
    w.finish(Stream::Stdout, at(1));
    assert_eq!(w.lost(), 11);
}

#[test]
fn since_is_a_start_and_not_a_filter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut w = writer(&path, Format::Json, |_| {});
    for (n, second) in [5, 10, 4, 11].into_iter().enumerate() {
        w.write(Stream::Stdout, format!("line {n}\n").as_bytes(), at(second));
    }
    assert_eq!(read(ReadOptions { since: Some(at(6)), ..options(&path, Format::Json) }), numbers(1..4));
}

#[test]
fn tail_of_a_large_file_reads_only_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    // 5 GB of nothing, then lines: reading from the start would take seconds and find one endless line.
    let file = fs::File::create(&path).unwrap();
    file.set_len(5 << 30).unwrap();
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"\n").unwrap();
    write_numbers(&mut writer(&path, Format::Json, |_| {}), 0..20_000);
    let mut reader =
        Reader::open(ReadOptions { tail: Some(15_000), ..options(&path, Format::Json) }).unwrap();
    assert_eq!(lines(&mut reader), numbers(5_000..20_000));
}

/// `cargo test --release -p wharf-logs -- --ignored --nocapture`
#[test]
#[ignore = "writes 800 MB and measures"]
fn how_fast_half_a_gigabyte_goes_through() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = dir.path().join("log");
    let batch = [&[b'x'; 99][..], b"\n"].concat().repeat(655);
    for format in FORMATS {
        let start = std::time::Instant::now();
        let mut w = writer(&path, format, |f| f.attrs.clear());
        for _ in 0..7634 {
            w.write(Stream::Stdout, &batch, crate::now());
        }
        drop(w);
        println!("{format:?} written in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        let mut reader = Reader::open(options(&path, format)).unwrap();
        let mut count = 0;
        while let Next::Entry(entry) = reader.poll_next().unwrap() {
            count += entry.line.len();
        }
        println!("{format:?} read in {:?}", start.elapsed());
        assert_eq!(count, batch.len() * 7634);
        let start = std::time::Instant::now();
        let got = read(ReadOptions { tail: Some(1000), ..options(&path, format) });
        println!("{format:?} tail in {:?}", start.elapsed());
        assert_eq!(got.len(), 1000);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn reading_goes_on_after_any_entry_in_another_reader() {
    for (format, compress) in [(Format::Json, false), (Format::Local, false), (Format::Local, true)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = writer(&path, format, |file| {
            (file.max_size, file.max_files, file.compress) = (Some(600), 40, compress);
        });
        write_numbers(&mut log, 0..100);
        let mut first = Reader::open(options(&path, format)).unwrap();
        for n in 0..50 {
            assert!(matches!(first.poll_next().unwrap(), Next::Entry(_)), "{n}");
            // Found again in its file, by its time where that is compressed.
            let mut second = Reader::open_after(options(&path, format), first.position()).unwrap();
            assert_eq!(lines(&mut second), numbers(n + 1..100), "{format:?} {compress} {n}");
        }
        let position = first.position();
        write_numbers(&mut log, 100..160);
        let mut second = Reader::open_after(options(&path, format), position).unwrap();
        assert_eq!(lines(&mut second), numbers(50..160), "{format:?} {compress}");
    }
}

#[test]
fn a_follower_far_behind_finds_what_was_compressed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = writer(&path, Format::Local, |file| {
        (file.max_size, file.max_files, file.compress) = (Some(600), 40, true);
    });
    write_numbers(&mut log, 0..3);
    let mut reader =
        Reader::open(ReadOptions { follow: Follow::Yes, ..options(&path, Format::Local) }).unwrap();
    let mut seen = lines(&mut reader);
    write_numbers(&mut log, 3..200);
    drop(log);
    // The end of the old file is looked at twice before it is left.
    while seen.len() < 200 {
        let more = lines(&mut reader);
        assert!(!more.is_empty(), "{} lines", seen.len());
        seen.extend(more);
    }
    assert_eq!(seen, numbers(0..200));
}
