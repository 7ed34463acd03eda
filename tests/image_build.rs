//! `docker build` by the stock CLI and the API: steps, cache, stages, mounts, errors, and that nothing is left.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};
use wharf_testkit::{Daemon, Entry, Footprint, Output, Registry, Response, Tar, lacks, until};

/// Builds a context of these files, as the stock CLI does.
fn build(daemon: &Daemon, files: &[Entry], args: &[&str]) -> Result<Output> {
    daemon.docker_stdin(&[&["build"], args, &["-"]].concat(), &Tar::of(files).bytes())
}

fn file(name: &str, text: &str) -> Entry {
    Entry::file(name, 0o644, text)
}

fn dockerfile(text: &str) -> Entry {
    file("Dockerfile", text)
}

/// What a command in an image says.
fn says(daemon: &Daemon, image: &str, script: &str) -> Result<String> {
    daemon.docker(&["run", "--rm", "--network=none", image, "sh", "-c", script])?.ok()
}

fn post(daemon: &Daemon, query: &str, files: &[Entry]) -> Result<Response> {
    daemon.api().send("POST", &format!("/build?{query}"), "application/x-tar", &Tar::of(files).bytes())
}

fn messages(answer: &Response) -> Vec<Value> {
    let text = String::from_utf8_lossy(&answer.body);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn stream(answer: &Response) -> String {
    messages(answer).iter().filter_map(|message| message["stream"].as_str().map(str::to_owned)).collect()
}

const WHOLE: &str = "ARG BASE=busybox\nFROM $BASE AS first\nLABEL a=\"b c\"\nENV K=v P=\"$K/w\"\nARG WHO=nobody\nUSER root\n\
    RUN echo \"$WHO $P\" > /who\nCOPY --chown=7:8 a.txt sub/ /copied/\nWORKDIR rel\nWORKDIR ative\nEXPOSE 80 53/udp\nVOLUME /vol\n\
    STOPSIGNAL SIGINT\nSHELL [\"/bin/sh\", \"-ec\"]\nHEALTHCHECK --retries=2 CMD true\nENTRYPOINT [\"cat\"]\n\
    FROM first\nCOPY --from=first /who /who2\nCOPY --from=0 --chmod=u=rw,go= /who /who3\nCMD [\"/who2\"]\nMAINTAINER me\n";

#[test]
fn every_instruction_makes_its_step() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let files =
        [dockerfile(WHOLE), file("a.txt", "A"), Entry::dir("sub", 0o700), Entry::file("sub/x", 0o755, "X")];
    let args = ["-t", "whole:v1", "--build-arg", "WHO=me", "--build-arg", "UNUSED=1", "--label", "l=1"];
    let printed = build(&daemon, &files, &args)?.ok()?;
    for line in [
        "Step 1/22 : ARG BASE=busybox",
        "Step 22/22 : LABEL l=1",
        "[Warning] One or more build-args [UNUSED] were not consumed",
        "Successfully tagged whole:v1",
    ] {
        ensure!(printed.contains(line), "{line}: {printed}");
    }
    assert_eq!(daemon.docker(&["run", "--rm", "--network=none", "whole:v1"])?.ok()?, "me /w\n");
    let look = "stat -c '%n %a %u:%g' /copied /copied/a.txt /copied/x /who2 /who3; pwd";
    let seen =
        daemon.docker(&["run", "--rm", "--network=none", "--entrypoint=sh", "whole:v1", "-c", look])?.ok()?;
    assert_eq!(
        seen,
        "/copied 755 7:8\n/copied/a.txt 644 7:8\n/copied/x 755 7:8\n/who2 644 0:0\n/who3 600 0:0\n/rel/ative\n"
    );
    let image = daemon.inspect_image("whole:v1")?;
    let config = &image["Config"];
    assert_eq!(config["Labels"], json!({"a": "b c", "l": "1"}));
    assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&json!(["cat"]), &json!(["/who2"])));
    assert_eq!((&config["StopSignal"], &config["Shell"]), (&json!("SIGINT"), &json!(["/bin/sh", "-ec"])));
    assert_eq!((&config["WorkingDir"], &config["User"]), (&json!("/rel/ative"), &json!("root")));
    assert_eq!(config["ExposedPorts"], json!({"53/udp": {}, "80/tcp": {}}));
    assert_eq!(image["Author"], "me");
    let history =
        daemon.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "whole:v1"])?.ok()?;
    for line in [
        "/bin/sh -ec #(nop)  CMD [\"/who2\"]",
        "/bin/sh -c #(nop)  ENV K=v P=/w",
        "|1 WHO=me /bin/sh -c echo \"$WHO $P\" > /who",
        "/bin/sh -c #(nop) WORKDIR /rel/ative",
        "/bin/sh -c #(nop)  EXPOSE 53/udp 80",
        "/bin/sh -c #(nop)  VOLUME [/vol]",
    ] {
        ensure!(history.lines().any(|found| found == line), "{line}:\n{history}");
    }
    daemon.stop()
}

#[test]
fn what_changed_and_what_follows_is_built_anew() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /first\nCOPY a /a\nRUN cat /proc/sys/kernel/random/uuid > /second\n";
    let uuids = |content: &str, mode: u32, args: &[&str]| -> Result<(String, String)> {
        let files = [dockerfile(text), Entry::file("a", mode, content), file("b", content)];
        build(&daemon, &files, &[&["-t", "cached"], args].concat())?.ok()?;
        let both = says(&daemon, "cached", "cat /first /second")?;
        let (first, second) = both.trim().split_once('\n').context("two lines")?;
        Ok((first.to_owned(), second.to_owned()))
    };
    let (first, second) = uuids("one", 0o644, &[])?;
    assert_eq!(uuids("one", 0o644, &[])?, (first.clone(), second.clone()), "nothing changed");
    let (same, other) = uuids("two", 0o644, &[])?;
    ensure!(same == first && other != second, "content");
    let (same, third) = uuids("two", 0o755, &[])?;
    ensure!(same == first && third != other, "mode");
    assert_eq!(uuids("one", 0o644, &[])?, (first.clone(), second.clone()), "as it was once");
    let (fresh, _) = uuids("one", 0o644, &["--no-cache"])?;
    ensure!(fresh != first, "without cache");
    // Steps of an image that was made elsewhere.
    let archive =
        daemon.docker(&["save", "cached", "-o", &format!("{}/cached.tar", daemon.dir().display())])?;
    archive.ok()?;
    let other = Daemon::with_busybox()?;
    other.docker(&["load", "-i", &format!("{}/cached.tar", daemon.dir().display())])?.ok()?;
    let files = [dockerfile(text), file("a", "one")];
    let printed = build(&other, &files, &["--cache-from", "cached", "-t", "again"])?.ok()?;
    assert_eq!(printed.matches("Using cache").count(), 3, "{printed}");
    assert_eq!(says(&other, "again", "cat /first")?.trim(), fresh);
    other.stop()?;
    daemon.stop()
}

#[test]
fn files_are_copied_by_dockers_rules() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let packed =
        Tar::of(&[Entry::dir("in", 0o711), Entry::file("in/side", 0o640, "packed").owned(3, 4)]).bytes();
    let files = [
        dockerfile(
            "FROM busybox\nRUN mkdir -p /real && ln -s /real /link && ln -s /nowhere/deep /dangling\n\
             COPY one.txt /link/\nCOPY one.txt /dangling\nCOPY [\"with space\", \"/s/\"]\nCOPY *.txt d?r /all/\n\
             COPY dir /new\nCOPY dir/inner/../inner/y /y\nADD packed.tar /unpacked/\nCOPY packed.tar /kept\n\
             COPY --parents dir/./inner/y /with/\nCOPY --exclude=*.txt . /some/\nCOPY tolink /followed\nCOPY <<made /doc\nhello $HOME\nmade\n",
        ),
        file("one.txt", "1"),
        file("two.txt", "2"),
        file("with space", "s"),
        Entry::dir("dir", 0o750),
        Entry::dir("dir/inner", 0o700),
        file("dir/inner/y", "y"),
        Entry::symlink("dir/up", "../one.txt"),
        Entry::symlink("tolink", "one.txt"),
        Entry::file("packed.tar", 0o600, packed),
    ];
    build(&daemon, &files, &["-t", "copies"])?.ok()?;
    let look = "cat /real/one.txt /nowhere/deep '/s/with space' /y /followed; echo; ls -A /all /new; readlink /new/up; \
                stat -c '%n %a %u:%g' /unpacked/in /unpacked/in/side /kept /new; find /with /some | sort; cat /doc";
    assert_eq!(
        says(&daemon, "copies", look)?,
        "11sy1\n/all:\ninner\none.txt\ntwo.txt\nup\n\n/new:\ninner\nup\n../one.txt\n\
         /unpacked/in 711 0:0\n/unpacked/in/side 640 3:4\n/kept 600 0:0\n/new 755 0:0\n\
         /some\n/some/Dockerfile\n/some/dir\n/some/dir/inner\n/some/dir/inner/y\n/some/dir/up\n/some/packed.tar\n/some/tolink\n\
         /some/with space\n/with\n/with/inner\n/with/inner/y\nhello \n"
    );
    daemon.stop()
}

#[test]
fn commands_see_mounts_and_leave_nothing_of_them() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let text = "FROM busybox AS base\nRUN echo based > /based\nFROM busybox\n\
        RUN --mount=type=bind,target=/ctx --mount=type=bind,from=base,source=/based,target=/b cat /ctx/f /b > /out; ! touch /ctx/no\n\
        RUN --mount=target=/ctx,rw echo changed > /ctx/f; cat /ctx/f >> /out\n\
        RUN --mount=target=/ctx cat /ctx/f >> /out\n\
        RUN --mount=type=cache,target=/cache,mode=0711 echo x >> /cache/n; wc -l < /cache/n >> /out; stat -c %a /cache >> /out\n\
        RUN --mount=type=tmpfs,target=/t,size=64k ! head -c 100000 /dev/zero > /t/big && echo limited >> /out\n\
        RUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY sha256sum /run/secrets/key | grep -q SUM && echo -n $KEY | sha256sum | grep -q SUM\n\
        RUN --network=none test $(ls /sys/class/net | wc -l) = 1\n";
    let text = text.replace("SUM", &wharf_testkit::sha256(b"w0nderful-s3cret"));
    let files = [dockerfile(&text), file("f", "from the context\n")];
    let secrets = base64(&json!({"key": base64(b"w0nderful-s3cret")}).to_string().into_bytes());
    let build = |query: &str, text: &[Entry], secrets: &str| {
        let path = format!("/build?{query}");
        let headers = [("X-Wharf-Build-Secrets", secrets)];
        daemon.api().request("POST", &path, "application/x-tar", &headers, &Tar::of(text).bytes())
    };
    let answer = build("t=mounted", &files, &secrets)?;
    ensure!(stream(&answer).contains("Successfully tagged mounted:latest"), "{:?}", messages(&answer));
    assert_eq!(
        says(&daemon, "mounted", "cat /out")?,
        "from the context\nbased\nchanged\nfrom the context\n1\n711\nlimited\n"
    );
    // The cache is there the next time, until it is pruned.
    let again = build("t=mounted&nocache=1", &files, &secrets)?;
    ensure!(stream(&again).contains("Successfully built"), "{:?}", messages(&again));
    ensure!(says(&daemon, "mounted", "cat /out")?.contains("\n2\n711\n"));
    let prune = |query: &str| daemon.api().call("POST", &format!("/build/prune?{query}"));
    for (query, status, freed) in [
        ("filters=%7B%22until%22:%5B%221h%22%5D%7D", 200, 0),
        ("filters=%7B%22id%22:%5B%22nosuch%22%5D%7D", 200, 0),
        ("keep-storage=4", 200, 0),
        ("keep-storage=x", 400, 0),
        ("filters=%7B%22nosuch%22:%5B%221%22%5D%7D", 400, 0),
        ("keep-storage=3", 200, 4),
    ] {
        let pruned = prune(query)?;
        assert_eq!(pruned.status, status, "{query}: {}", pruned.message());
        assert_eq!(pruned.json()["SpaceReclaimed"].as_i64().unwrap_or(0), freed, "{query}");
        assert_eq!(pruned.json()["CachesDeleted"].as_array().map(Vec::len), (freed > 0).then_some(1));
    }
    let missing = [dockerfile("FROM busybox\nRUN --mount=type=secret,id=key,required true\n")];
    let answer = build("", &missing, "")?;
    assert_eq!(messages(&answer).last().map(|m| m["error"].clone()), Some(json!("secret key: not found")));
    for (flag, expected) in [
        ("--network=host", "network.host is not allowed"),
        ("--security=insecure", "security.insecure is not allowed"),
    ] {
        let refused = build("", &[dockerfile(&format!("FROM busybox\nRUN {flag} true\n"))], "")?;
        assert_eq!(messages(&refused).last().map(|m| m["error"].clone()), Some(json!(expected)));
    }
    let found = std::process::Command::new("grep")
        .arg("-rl")
        .arg("w0nderful-s3cret")
        .arg(daemon.data_root())
        .output()?;
    ensure!(found.stdout.is_empty(), "the secret stays: {}", String::from_utf8_lossy(&found.stdout));
    daemon.stop()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |three: &[u8]| {
        let bits =
            three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let letter = move |at: usize| LETTERS[(bits >> (18 - 6 * at) & 63) as usize] as char;
        (0..=three.len()).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn triggers_of_the_base_run_first() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let base = "FROM busybox\nONBUILD COPY f /f\nONBUILD RUN echo built >> /f\n";
    build(&daemon, &[dockerfile(base)], &["-t", "base"])?.ok()?;
    let printed =
        build(&daemon, &[dockerfile("FROM base\nRUN cat /f\n"), file("f", "own\n")], &["-t", "child"])?
            .ok()?;
    ensure!(
        printed.contains("# Executing 2 build triggers\n") && printed.contains("own\nbuilt\n"),
        "{printed}"
    );
    assert_eq!(daemon.inspect_image("child")?["Config"]["OnBuild"], Value::Null);
    // What a declared volume gets later does not stay.
    let text =
        "FROM busybox\nRUN mkdir /v && echo image > /v/f\nVOLUME /v\nRUN echo lost > /v/f\nCMD cat /v/f\n";
    build(&daemon, &[dockerfile(text)], &["-t", "volume"])?.ok()?;
    assert_eq!(daemon.docker(&["run", "--rm", "--network=none", "volume"])?.ok()?, "image\n");
    daemon.stop()
}

#[test]
fn what_is_wrong_is_said_in_dockers_words() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let before = Footprint::at_rest(&daemon)?;
    for (text, expected) in [
        ("FROM busybox\nRUN exit 7\n", "The command '/bin/sh -c exit 7' returned a non-zero code: 7"),
        (
            "FROM busybox\nCOPY nosuch /\n",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nosuch: file does not exist",
        ),
        ("FROM busybox\nCOPY *.nosuch /\n", "COPY failed: no source files were specified"),
        (
            "FROM busybox\nCOPY a b /c\n",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "FROM busybox\nCOPY ../../etc/shadow /\n",
            "COPY failed: forbidden path outside the build context: ../../etc/shadow ()",
        ),
        (
            "FROM busybox\nCOPY out /\n",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat out: file does not exist",
        ),
        ("FROM busybox\nCOPY --from=3 / /\n", "invalid from flag value 3: index out of bounds"),
        ("FROM busybox\nCOPY --from=0 / /\n", "invalid from flag value 0: refers to current build stage"),
        ("FROM $NOPE\n", "base name ($NOPE) should not be blank"),
        ("FROM busybox AS a\nFROM busybox AS a\n", "a stage name already used"),
        ("FROM busybox\nCOPY http://x/y /\n", "COPY failed: source can't be a URL for COPY"),
        (
            "FROM busybox\nCOPY --chown=nobodyhere a /\n",
            "unable to convert uid/gid chown string to host mapping: can't find uid for user nobodyhere: no such user: nobodyhere",
        ),
        ("FROM busybox\nRUN --mount=type=bind,from=0,target=/x true\n", "refers to current build stage"),
    ] {
        let files = [dockerfile(text), file("a", "a"), file("b", "b"), Entry::symlink("out", "/etc/shadow")];
        let answer = post(&daemon, "forcerm=1", &files)?;
        let last = messages(&answer).pop().unwrap_or_default();
        assert_eq!((answer.status, &last["error"]), (200, &json!(expected)), "{text}: {last}");
        let code = if text.contains("exit 7") { json!(7) } else { Value::Null };
        assert_eq!(last["errorDetail"]["code"], code);
    }
    daemon.docker(&["image", "prune", "-f"])?.ok()?;
    before.comes_back(&daemon)?;
    daemon.stop()
}

#[test]
fn what_is_wrong_at_the_start_has_a_status() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let before = Footprint::at_rest(&daemon)?;
    for (files, query, status, expected) in [
        (vec![file("x", "")], "", 500, "Cannot locate specified Dockerfile: Dockerfile"),
        (vec![dockerfile("")], "", 400, "the Dockerfile (Dockerfile) cannot be empty"),
        (vec![dockerfile("FROM busybox")], "target=nope", 400, "target stage \"nope\" could not be found"),
        (
            vec![dockerfile("FROM busybox")],
            "t=UPPER",
            400,
            "invalid reference format: repository name (library/UPPER) must be lowercase",
        ),
        (
            vec![dockerfile("FROM busybox")],
            "remote=ftp://x",
            500,
            "remoteURL (ftp://x) could not be recognized as URL",
        ),
        (vec![dockerfile("FROM busybox")], "buildargs=x", 400, "error reading build args"),
        (
            vec![Entry::symlink("Dockerfile", "/etc/passwd")],
            "",
            500,
            "Cannot locate specified Dockerfile: Dockerfile",
        ),
    ] {
        let answer = post(&daemon, query, &files)?;
        ensure!(
            answer.status == status && answer.message().starts_with(expected),
            "{query}: {} {}",
            answer.status,
            answer.message()
        );
    }
    before.comes_back(&daemon)?;
    daemon.stop()
}

#[test]
fn the_context_is_what_the_client_says() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let text = "FROM busybox\nCOPY . /all/\n";
    let ignored = [dockerfile(text), file(".dockerignore", "Dockerfile\n.dockerignore\n"), file("f", "f")];
    build(&daemon, &ignored, &["-t", "ignored"])?.ok()?;
    assert_eq!(says(&daemon, "ignored", "ls -A /all")?, "f\n");
    let files = [file("other/Build", text), file("f", "f")];
    build(&daemon, &files, &["-t", "named", "-f", "other/Build"])?.ok()?;
    assert_eq!(says(&daemon, "named", "ls -A /all/other")?, "Build\n");
    build(&daemon, &[file("dockerfile", text)], &["-t", "lower"])?.ok()?;
    let only = daemon
        .docker_stdin(&["build", "-q", "-t", "alone", "-"], b"FROM busybox\nCMD [\"echo\", \"alone\"]\n")?
        .ok()?;
    assert_eq!(only.trim(), daemon.inspect_image("alone")?["Id"]);
    assert_eq!(daemon.docker(&["run", "--rm", "--network=none", "alone"])?.ok()?, "alone\n");
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        if lacks(&[program]) {
            continue;
        }
        let path = daemon.dir().join("context");
        std::fs::write(&path, Tar::of(&[dockerfile(text), file("f", program)]).bytes())?;
        let packed = std::process::Command::new(program).arg("-c").arg(&path).output()?.stdout;
        let answer = daemon.api().send("POST", "/build?t=packed", "application/x-tar", &packed)?;
        ensure!(stream(&answer).contains("Successfully built"), "{program}: {:?}", messages(&answer));
        assert_eq!(says(&daemon, "packed", "cat /all/f")?, program);
    }
    daemon.stop()
}

#[test]
fn addresses_are_fetched_and_bases_pulled() -> Result<()> {
    if lacks(&["docker-registry", "skopeo", "busybox"]) {
        return Ok(());
    }
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    registry.push(daemon.net(), &wharf_testkit::busybox()?, "base:v1", &[])?;
    let web = daemon.dir().join("web");
    std::fs::create_dir(&web)?;
    let from = format!("FROM {}/base:v1\n", Registry::ADDRESS);
    let sum = wharf_testkit::sha256(b"fetched");
    std::fs::write(web.join("file"), "fetched")?;
    let context = [dockerfile(&format!("{from}COPY f /f\n")), file("f", "remote")];
    std::fs::write(web.join("context.tar"), Tar::of(&context).bytes())?;
    let mut serve = std::process::Command::new("busybox");
    serve.args(["httpd", "-f", "-p", "127.0.0.1:8099", "-h"]).arg(&web);
    let mut server = daemon.net().spawn(&mut serve)?;
    let url = "http://127.0.0.1:8099";
    let check = || -> Result<()> {
        let text = format!("{from}ADD --checksum=sha256:{sum} {url}/file /named\nADD {url}/file /dir/\n");
        let printed = until("the server is there", || {
            let out = build(&daemon, &[dockerfile(&text)], &["-t", "fetched"])?;
            Ok((out.code == 0).then_some(out.stdout))
        })?;
        ensure!(
            printed.contains("Pull complete") && printed.contains("Successfully tagged fetched"),
            "{printed}"
        );
        assert_eq!(
            says(&daemon, "fetched", "cat /named /dir/file; stat -c %a /named")?,
            "fetchedfetched600\n"
        );
        let wrong = text.replace(&sum, &wharf_testkit::sha256(b"other"));
        let out = build(&daemon, &[dockerfile(&wrong)], &[])?;
        ensure!(out.code != 0 && out.stderr.contains("digest mismatch sha256:"), "{}", out.stderr);
        daemon.docker(&["build", "-t", "remote", &format!("{url}/context.tar")])?.ok()?;
        assert_eq!(says(&daemon, "remote", "cat /f")?, "remote");
        let missing = daemon.docker(&["build", &format!("{url}/nothing.tar")])?;
        ensure!(missing.code != 0 && missing.stderr.contains("404"), "{}", missing.stderr);
        Ok(())
    };
    let checked = check();
    server.kill()?;
    server.wait()?;
    checked?;
    drop(registry);
    daemon.stop()
}

#[test]
fn a_client_that_leaves_or_cancels_ends_the_build() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let before = Footprint::at_rest(&daemon)?;
    let context = Tar::of(&[dockerfile("FROM busybox\nRUN echo begun; sleep 10000\n")]).bytes();
    let begin = |query: &str| -> Result<UnixStream> {
        let mut stream = UnixStream::connect(daemon.socket())?;
        let head = format!(
            "POST /build?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
            context.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&context)?;
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&heard).contains("begun\\n") {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "the stream ended: {}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&buffer[..count]);
        }
        Ok(stream)
    };
    let gone = || -> Result<()> {
        until("no container is left", || Ok(daemon.docker(&["ps", "-aq"])?.ok()?.is_empty().then_some(())))
    };
    drop(begin("")?);
    gone()?;
    let mut stream = begin("buildid=mine")?;
    assert_eq!(daemon.api().call("POST", "/build/cancel?id=mine")?.status, 200);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).ok();
    ensure!(!rest.contains("Successfully"), "{rest}");
    gone()?;
    before.comes_back(&daemon)?;
    daemon.stop()
}

#[test]
fn limits_of_the_request_hold_for_commands() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let text = "FROM busybox\nRUN ulimit -n; cat /etc/hosts; df -k /dev/shm | tail -1; \
                cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes\n";
    let args =
        ["--ulimit", "nofile=123:123", "--add-host", "other:10.9.8.7", "--shm-size", "1m", "--memory", "64m"];
    let printed = build(&daemon, &[dockerfile(text)], &args)?.ok()?;
    ensure!(printed.contains("\n123\n") && printed.contains("10.9.8.7\tother"), "{printed}");
    ensure!(printed.contains(" 1024 ") && printed.contains(&format!("\n{}\n", 64 << 20)), "{printed}");
    // Containers stay to be looked at, if that is wished.
    let kept = build(&daemon, &[dockerfile("FROM busybox\nENV a=b\nRUN true\n")], &["--rm=false"])?.ok()?;
    ensure!(!kept.contains("Removed intermediate"), "{kept}");
    let left = daemon.docker(&["ps", "-aq"])?.ok()?;
    assert_eq!(left.lines().count(), 2);
    let left: Vec<&str> = left.lines().collect();
    daemon.docker(&[&["rm"], &left[..]].concat())?.ok()?;
    daemon.stop()
}

#[test]
fn equal_inputs_come_to_equal_images_when_the_time_is_given() -> Result<()> {
    let text =
        "FROM busybox\nENV a=b\nRUN echo x > /x; mkdir /d; ln -s x /d/l\nCOPY f /d/\nWORKDIR /w\nCMD true\n";
    let ids = |args: &[&str]| -> Result<(String, String)> {
        let daemon = Daemon::with_busybox()?;
        build(&daemon, &[dockerfile(text), file("f", "f")], &[&["-t", "dated"], args].concat())?.ok()?;
        let image = daemon.inspect_image("dated")?;
        let latest = says(&daemon, "dated", "stat -c %Y /x /d /d/l /d/f /w | sort -u")?;
        let parts = (format!("{} {}", image["Id"], image["Created"]), latest);
        daemon.stop()?;
        Ok(parts)
    };
    let dated = ["--build-arg", "SOURCE_DATE_EPOCH=1000000000"];
    let (first, times) = ids(&dated)?;
    assert_eq!((&first, times.as_str()), (&ids(&dated)?.0, "1000000000\n"));
    ensure!(first.contains("2001-09-09T01:46:40Z"), "{first}");
    ensure!(first != ids(&["--build-arg", "SOURCE_DATE_EPOCH=1000000001"])?.0);
    let daemon = Daemon::with_busybox()?;
    let wrong = post(&daemon, "buildargs=%7B%22SOURCE_DATE_EPOCH%22:%22x%22%7D", &[dockerfile(text)])?;
    assert_eq!(
        (wrong.status, wrong.message().as_str()),
        (400, "invalid SOURCE_DATE_EPOCH: \"x\" is no number of seconds")
    );
    daemon.stop()
}
