//! commit: the layer, the config and what stands around it, by docker's CLI, ours and the API.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wharf_testkit::{Daemon, Entry, from_files};

fn config_on_disk(daemon: &Daemon, id: &str) -> Result<Value> {
    let hex = id.trim_start_matches("sha256:");
    let path = daemon.data_root().join("image/overlay2/imagedb/content/sha256").join(hex);
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

#[test]
fn changes_become_a_layer_on_the_image() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script = "echo data > /made; rm /etc/group; chmod 4711 /bin/busybox; mkdir /d; ln -s /x /d/l; mkfifo /d/p; \
                  ln /made /d/hard; rm -rf /home; mkdir /home; echo own > /home/new; rm -rf /usr";
    daemon
        .docker(&["run", "--name", "cc", "--network=none", "-e", "K=v", "busybox", "sh", "-c", script])?
        .ok()?;
    let base = daemon.inspect_image("busybox")?;
    for (cli, tag) in [("docker", "made:v1"), ("wharf", "made:v2")] {
        let args = [
            "commit",
            "-a",
            "A U Thor",
            "-m",
            "a message",
            "-c",
            "ENV X=$K:y",
            "-c",
            "CMD [\"cat\", \"/made\"]",
            "cc",
            tag,
        ];
        let out = if cli == "docker" { daemon.docker(&args)? } else { daemon.wharf(&args)? }.ok()?;
        let image = daemon.inspect_image(tag)?;
        ensure!(out.trim() == image["Id"], "{cli} printed {out}");
        assert_eq!((&image["Author"], &image["Comment"]), (&json!("A U Thor"), &json!("a message")));
        assert_eq!(image["Parent"], base["Id"]);
        assert_eq!(image["Config"]["Cmd"], json!(["cat", "/made"]));
        let env = image["Config"]["Env"].as_array().cloned().unwrap_or_default();
        ensure!(env.contains(&json!("K=v")) && env.contains(&json!("X=v:y")), "{env:?}");
        assert_eq!(image["RootFS"]["Layers"][0], base["RootFS"]["Layers"][0]);
        assert_eq!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
        assert_eq!(daemon.docker(&["run", "--rm", "--network=none", tag])?.ok()?, "data\n");
    }
    let look = "ls -A /home; ls -d /usr /etc/group 2>&1; stat -c '%a %h' /bin/busybox /made; readlink /d/l; ls -l /d/p";
    let seen = daemon.docker(&["run", "--rm", "--network=none", "made:v1", "sh", "-c", look])?;
    ensure!(seen.stdout.starts_with("new\n"), "the directory was not made again: {}", seen.stdout);
    ensure!(seen.stdout.contains("/usr: No such file") && seen.stdout.contains("/etc/group: No such file"));
    ensure!(seen.stdout.contains("4711 ") && seen.stdout.contains("\n644 2\n/x\np"), "{}", seen.stdout);
    let config =
        config_on_disk(&daemon, daemon.inspect_image("made:v1")?["Id"].as_str().unwrap_or_default())?;
    let id = daemon.docker(&["inspect", "-f", "{{.Id}}", "cc"])?.ok()?;
    assert_eq!(config["container"], id.trim());
    assert_eq!(config["container_config"]["Cmd"], json!(["sh", "-c", script]));
    assert_eq!(config["history"][1]["created_by"], format!("sh -c {script}"));
    assert_eq!(config["history"][1]["author"], "A U Thor");
    assert_eq!(config.get("comment"), None, "the comment stands in the history");
    let history =
        daemon.docker(&["history", "--format", "{{.ID}} {{.Comment}}", "--no-trunc", "made:v1"])?.ok()?;
    let ids: Vec<&str> = history.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(
        ids,
        [
            daemon.inspect_image("made:v1")?["Id"].as_str().unwrap_or_default(),
            base["Id"].as_str().unwrap_or_default()
        ]
    );
    daemon.stop()
}

#[test]
fn the_layer_can_be_rebuilt_bit_by_bit_elsewhere() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.ran("cc", "busybox", "seq 1 100000 > /n; rm /bin/ls")?;
    daemon.docker(&["commit", "cc", "made"])?.ok()?;
    let archive = daemon.dir().join("made.tar");
    daemon.docker(&["save", "-o", &archive.to_string_lossy(), "made"])?.ok()?;
    let other = Daemon::start()?;
    other.docker(&["load", "-i", &archive.to_string_lossy()])?.ok()?;
    assert_eq!(other.inspect_image("made")?["Id"], daemon.inspect_image("made")?["Id"]);
    let seen =
        other.docker(&["run", "--rm", "--network=none", "made", "sh", "-c", "md5sum </n; which ls"])?;
    assert_eq!((seen.code, seen.stdout.as_str()), (1, "dea9193b768319cbb4ff1a137ac03113  -\n"));
    other.stop()?;
    daemon.stop()
}

#[test]
fn a_running_container_is_paused_meanwhile() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["run", "-d", "--name", "cc", "--network=none", "busybox", "sleep", "1000"])?.ok()?;
    let now = || {
        daemon
            .api()
            .call("GET", "/info")
            .map(|r| r.json()["SystemTime"].as_str().unwrap_or_default().to_owned())
    };
    let events = |since: &str| -> Result<Vec<String>> {
        let out = daemon.docker(&[
            "events",
            "--since",
            since,
            "--until",
            &now()?,
            "--filter",
            "container=cc",
            "--format",
            "{{.Action}}",
        ])?;
        Ok(out.ok()?.lines().map(str::to_owned).collect())
    };
    let status = || daemon.docker(&["inspect", "-f", "{{.State.Status}}", "cc"]).and_then(|o| o.ok());
    let start = now()?;
    daemon.docker(&["commit", "cc", "one"])?.ok()?;
    assert_eq!(events(&start)?, ["pause", "commit", "unpause"]);
    let start = now()?;
    daemon.docker(&["commit", "--pause=false", "cc", "two"])?.ok()?;
    assert_eq!(events(&start)?, ["commit"]);
    assert_eq!(status()?, "running\n");
    daemon.docker(&["pause", "cc"])?.ok()?;
    let start = now()?;
    daemon.docker(&["commit", "cc", "three"])?.ok()?;
    assert_eq!(events(&start)?, ["commit"]);
    assert_eq!(status()?, "paused\n", "one that was paused stays so");
    let out = daemon
        .docker(&[
            "events",
            "--since",
            &start,
            "--until",
            &now()?,
            "--filter",
            "event=commit",
            "--format",
            "{{json .Actor.Attributes}}",
        ])?
        .ok()?;
    let attributes: Value = serde_json::from_str(&out)?;
    assert_eq!((&attributes["imageRef"], &attributes["comment"]), (&json!("three:latest"), &json!("")));
    assert_eq!(attributes["imageID"], daemon.inspect_image("three")?["Id"]);
    daemon.stop()
}

#[test]
fn nothing_changed_is_no_layer() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["create", "--name", "cc", "--network=none", "busybox", "true"])?.ok()?;
    daemon.docker(&["commit", "cc", "same"])?.ok()?;
    let image = daemon.inspect_image("same")?;
    assert_eq!(image["RootFS"], daemon.inspect_image("busybox")?["RootFS"]);
    let config = config_on_disk(&daemon, image["Id"].as_str().unwrap_or_default())?;
    assert_eq!(config["history"][1]["empty_layer"], true);
    assert_eq!(std::fs::read_dir(daemon.data_root().join("image/overlay2/layerdb/sha256"))?.count(), 1);
    daemon.stop()
}

#[test]
fn the_body_changes_the_config() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let body = json!({"Image": "busybox", "Cmd": ["true"], "Env": ["A=own", "B=own"], "User": "daemon"});
    daemon.api().json("POST", "/containers/create?name=cc", &body)?;
    let answer = daemon.api().json(
        "POST",
        "/commit?container=cc&repo=r&tag=t&changes=LABEL+a%3Db",
        &json!({"Env": ["A=given"], "WorkingDir": "/w"}),
    )?;
    assert_eq!(answer.status, 201, "{}", answer.message());
    let image = daemon.inspect_image("r:t")?;
    let config = &image["Config"];
    assert_eq!(config["Env"][0], "A=given");
    ensure!(config["Env"].as_array().is_some_and(|env| env.contains(&json!("B=own"))), "{config}");
    assert_eq!(
        (&config["User"], &config["WorkingDir"], &config["Cmd"]),
        (&json!("daemon"), &json!("/w"), &json!(["true"]))
    );
    assert_eq!(config["Labels"], json!({"a": "b"}));
    for (path, status, message) in [
        ("/commit?container=nosuch", 404, "No such container: nosuch"),
        ("/commit?container=cc&changes=NOPE+x", 400, "NOPE is not a valid change command"),
        ("/commit?container=cc&changes=EXPOSE+x", 400, "invalid containerPort: x"),
        (
            "/commit?container=cc&repo=Bad/Repo",
            400,
            "invalid reference format: repository name (Repo) must be lowercase",
        ),
    ] {
        let answer = daemon.api().json("POST", path, &Value::Null)?;
        assert_eq!((answer.status, answer.message().as_str()), (status, message), "{path}");
    }
    daemon.stop()
}

#[test]
fn a_container_without_image_layers_can_be_committed() -> Result<()> {
    let daemon = Daemon::start()?;
    let image = from_files("tiny:latest", &[Entry::file("f", 0o644, "x")], json!({"Cmd": ["/f"]}))?;
    daemon.load(&image)?;
    daemon.docker(&["create", "--name", "cc", "--network=none", "tiny"])?.ok()?;
    daemon.docker(&["cp", "/etc/hostname", "cc:/added"])?.ok()?;
    daemon.docker(&["commit", "cc", "tiny:2"])?.ok()?;
    daemon.docker(&["create", "--name", "dd", "--network=none", "tiny:2"])?.ok()?;
    assert_eq!(daemon.docker(&["diff", "dd"])?.ok()?, "");
    let listing = daemon.docker(&["export", "-o", &daemon.dir().join("x.tar").to_string_lossy(), "dd"])?;
    listing.ok()?;
    let out = std::process::Command::new("tar").arg("tf").arg(daemon.dir().join("x.tar")).output()?;
    ensure!(String::from_utf8_lossy(&out.stdout).lines().any(|line| line == "added"));
    daemon.stop()
}
