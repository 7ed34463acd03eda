//! import: from standard input, files and the web, compressed in every way, with changes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use wharf_testkit::{Daemon, Entry, Tar, busybox, lacks};

fn rootfs() -> Vec<u8> {
    Tar::of(&[
        Entry::dir("etc", 0o755),
        Entry::file("etc/hello", 0o640, "hi\n").owned(33, 34),
        Entry::symlink("l", "etc"),
    ])
    .bytes()
}

fn compressed(program: &str, data: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("piped")?;
    stdin.write_all(data)?;
    drop(stdin);
    Ok(child.wait_with_output()?.stdout)
}

#[test]
fn every_compression_gives_the_same_layer() -> Result<()> {
    let programs = ["gzip", "bzip2", "xz", "zstd"];
    if lacks(&programs) {
        return Ok(());
    }
    let daemon = Daemon::start()?;
    let plain = rootfs();
    let out = daemon.docker_stdin(&["import", "-m", "a message", "-", "plain:v1"], &plain)?.ok()?;
    let image = daemon.inspect_image("plain:v1")?;
    assert_eq!(out.trim(), image["Id"]);
    assert_eq!((&image["Comment"], &image["RepoTags"]), (&json!("a message"), &json!(["plain:v1"])));
    for program in programs {
        let archive = daemon.dir().join(program);
        std::fs::write(&archive, compressed(program, &plain)?)?;
        for (cli, args) in [
            ("docker", ["import", &archive.to_string_lossy()]),
            ("wharf", ["import", &archive.to_string_lossy()]),
        ] {
            let out = if cli == "docker" { daemon.docker(&args)? } else { daemon.wharf(&args)? }.ok()?;
            let other = daemon.inspect_image(out.trim())?;
            assert_eq!(other["RootFS"], image["RootFS"], "{program}");
            assert_eq!(other["Comment"], "Imported from -");
            assert_eq!(other["RepoTags"], json!([]));
        }
    }
    let refused = daemon.docker_stdin(&["import", "-"], b"BZh9 this is not bzip2")?;
    ensure!(refused.code == 1 && refused.stderr.contains("bzip2 data invalid"), "{}", refused.stderr);
    daemon.stop()
}

#[test]
fn changes_platform_and_name() -> Result<()> {
    let daemon = Daemon::start()?;
    for (cli, name) in [("docker", "x/made:1"), ("wharf", "x/made:2")] {
        let archive = daemon.dir().join("rootfs.tar");
        std::fs::write(&archive, rootfs())?;
        let path = archive.to_string_lossy();
        let args = [
            "import",
            "-c",
            "CMD [\"/hello\"]",
            "-c",
            "ENV A=\"b c\" D=e",
            "--change",
            "EXPOSE 80 53/udp",
            "-c",
            "LABEL l=v",
            "-c",
            "USER 33",
            "-c",
            "WORKDIR w",
            "-c",
            "VOLUME /v",
            "-c",
            "STOPSIGNAL 9",
            "-c",
            "ENTRYPOINT run it",
            "-c",
            "HEALTHCHECK NONE",
            "-c",
            "ONBUILD RUN x",
            "--platform",
            "linux/arm64",
            "-m",
            "m",
            &path,
            name,
        ];
        if cli == "docker" { daemon.docker(&args)? } else { daemon.wharf(&args)? }.ok()?;
        let image = daemon.inspect_image(name)?;
        assert_eq!(
            (&image["Architecture"], &image["Os"], &image["Comment"]),
            (&json!("arm64"), &json!("linux"), &json!("m"))
        );
        let wanted = json!({
            "Cmd": ["/hello"], "Env": ["A=b c", "D=e"], "ExposedPorts": {"53/udp": {}, "80/tcp": {}}, "Labels": {"l": "v"},
            "User": "33", "WorkingDir": "/w", "Volumes": {"/v": {}}, "StopSignal": "9", "Entrypoint": ["/bin/sh", "-c", "run it"],
            "Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["RUN x"],
        });
        for (key, value) in wanted.as_object().into_iter().flatten() {
            assert_eq!(&image["Config"][key], value, "{key}");
        }
    }
    daemon.stop()
}

#[test]
fn bad_changes_and_platforms_are_refused() -> Result<()> {
    let daemon = Daemon::start()?;
    std::fs::write(daemon.dir().join("rootfs.tar"), rootfs())?;
    for (change, message) in
        [("NOPE x", "NOPE is not a valid change command"), ("ENV a", "ENV must have two arguments")]
    {
        let refused = daemon.docker_stdin(&["import", "-c", change, "-"], &rootfs())?;
        assert_eq!(
            (refused.code, refused.stderr.as_str()),
            (1, format!("Error response from daemon: {message}\n").as_str())
        );
        let ours =
            daemon.wharf(&["import", "-c", change, &daemon.dir().join("rootfs.tar").to_string_lossy()])?;
        assert_eq!((ours.code, ours.stderr), (refused.code, refused.stderr));
    }
    let windows = daemon.docker_stdin(&["import", "--platform", "windows/amd64", "-"], &rootfs())?;
    ensure!(
        windows.code == 1 && windows.stderr.contains("operating system is not supported"),
        "{}",
        windows.stderr
    );
    daemon.stop()
}

/// Answers requests by their path, as long as the test runs.
fn serve(listener: &TcpListener, archive: &[u8]) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, extra, body) = match path.as_str() {
            "/rootfs.tar" => ("200 OK", "", archive),
            "/moved" => ("302 Found", "Location: /rootfs.tar\r\n", &b""[..]),
            _ => ("404 Not Found", "", &b"not here\n"[..]),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n",
            body.len()
        )?;
        stream.write_all(body)?;
    }
}

#[test]
fn from_the_web() -> Result<()> {
    let daemon = Daemon::start()?;
    let listener = daemon.net().within(|| Ok(TcpListener::bind("127.0.0.1:8000")?))?;
    let archive = rootfs();
    let served = archive.clone();
    std::thread::spawn(move || serve(&listener, &served));
    let url = "http://127.0.0.1:8000/rootfs.tar";
    let out = daemon.docker(&["import", url, "web:docker"])?.ok()?;
    ensure!(out.starts_with(&format!("Downloading from {url}\n")), "{out}");
    let ours = daemon.wharf(&["import", url, "web:wharf"])?.ok()?;
    assert_eq!(ours.lines().next(), out.lines().next());
    let image = daemon.inspect_image("web:docker")?;
    ensure!(out.ends_with(&format!("{}\n", image["Id"].as_str().unwrap_or_default())), "{out}");
    assert_eq!(image["Comment"], format!("Imported from {url}"));
    assert_eq!(image["RootFS"], daemon.inspect_image("web:wharf")?["RootFS"]);
    // The API takes addresses without a scheme.
    let answer =
        daemon.api().call("POST", "/images/create?fromSrc=127.0.0.1:8000/moved&repo=moved&message=m")?;
    let lines: Vec<Value> =
        String::from_utf8_lossy(&answer.body).lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(lines[0], json!({"status": "Downloading from http://127.0.0.1:8000/moved"}));
    let size = archive.len();
    ensure!(
        lines.contains(&json!({"status": "Importing", "progressDetail": {"current": size, "total": size}})),
        "{lines:?}"
    );
    assert_eq!(daemon.inspect_image("moved")?["RootFS"], image["RootFS"]);
    let missing = daemon.docker(&["import", "http://127.0.0.1:8000/nosuch"])?;
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (
            1,
            "Error response from daemon: failed to GET http://127.0.0.1:8000/nosuch with status 404 Not Found: not here\n"
        )
    );
    let refused = daemon.docker(&["import", "http://127.0.0.1:8001/rootfs.tar"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("connection refused"), "{}", refused.stderr);
    daemon.stop()
}

#[test]
fn export_and_import_keep_files_as_they_are() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon.load(&busybox()?)?;
    daemon.ran("cc", "busybox", "rm /etc/group; echo x > /x; chown 33:33 /x; chmod 6711 /x")?;
    let (one, two) = (daemon.dir().join("one.tar"), daemon.dir().join("two.tar"));
    daemon.docker(&["export", "-o", &one.to_string_lossy(), "cc"])?.ok()?;
    daemon.wharf(&["export", "-o", &two.to_string_lossy(), "cc"])?.ok()?;
    ensure!(std::fs::read(&one)? == std::fs::read(&two)?, "the same archive by both CLIs");
    daemon.docker(&["import", &one.to_string_lossy(), "flat"])?.ok()?;
    let out = daemon.docker(&[
        "run",
        "--rm",
        "--network=none",
        "flat",
        "sh",
        "-c",
        "stat -c '%a %u:%g' /x; ls /etc/group",
    ])?;
    ensure!(out.stdout == "6711 33:33\n" && out.stderr.contains("No such file"), "{out:?}");
    daemon.stop()
}
