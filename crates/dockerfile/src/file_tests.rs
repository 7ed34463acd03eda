//! Whole files, and what is wrong with them in Docker's words.

use crate::*;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse(text).unwrap()
}

fn refused(text: &str) -> String {
    Dockerfile::parse(text).unwrap_err().to_string()
}

#[test]
fn a_file_has_stages_and_steps() {
    let file = parse(
        "ARG V=1\nFROM a:$V AS One\nRUN x \\\n  y\nFROM --platform=linux/amd64 one\nCOPY --from=One --chown=1:2 a b /c/\n",
    );
    assert_eq!(file.arguments[0].instruction, [Argument { name: "V".into(), default: Some("1".into()) }]);
    let names: Vec<_> =
        file.stages.iter().map(|stage| (stage.name.as_deref(), stage.base.as_str())).collect();
    assert_eq!(names, [(Some("one"), "a:$V"), (None, "one")]);
    assert_eq!((file.stage("ONE"), file.stage("1"), file.stage("2")), (Some(0), None, None));
    assert_eq!(file.stages[0].steps[0].text, "RUN x   y");
    let Instruction::Copy(copy) = &file.stages[1].steps[0].instruction else { panic!() };
    assert_eq!((copy.from.as_str(), copy.chown.as_str(), copy.destination.as_str()), ("One", "1:2", "/c/"));
    assert_eq!(file.stages[1].platform, "linux/amd64");
}

#[test]
fn documents_follow_their_lines() {
    let file = parse(
        "FROM a\nRUN <<EOF\necho $x\n# no comment\nEOF\nRUN cat <<-A <<'B' >/f\n\tone\n\tA\ntwo\nB\nCOPY <<x <<\"y\" /d/\n$v\nx\n$v\ny\n\
         RUN <<S\n#!/bin/sh\ntrue\nS\nRUN [\"<<EOF\"]\nRUN echo $((1<<2))\n",
    );
    let run = |at: usize| match &file.stages[0].steps[at].instruction {
        Instruction::Run(run) => run.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(run(0).line.words(), ["echo $x\n# no comment\n"]);
    assert_eq!(run(1).line.words(), ["cat <<-A <<'B' >/f\none\nA\ntwo\nB\n"]);
    assert_eq!(
        (run(3).line.words()[0].as_str(), run(3).script.unwrap().content.as_str()),
        ("/dev/pipes/S", "#!/bin/sh\ntrue\n")
    );
    assert_eq!(
        (run(4).line.words(), run(5).line.words()),
        (&["<<EOF".into()][..], &["echo $((1<<2))".into()][..])
    );
    let variables = Variables::of(&["v=value".to_owned()]);
    let copy = file.stages[0].steps[2].instruction.clone().expand(&Lexer::new('\\', &variables)).unwrap();
    let Instruction::Copy(copy) = copy else { panic!() };
    let contents = copy.sources.iter().map(|source| match source {
        Source::Document(document) => (document.name.as_str(), document.content.as_str()),
        Source::Path(path) => panic!("{path}"),
    });
    let contents: Vec<_> = contents.collect();
    assert_eq!(contents, [("x", "value\n"), ("y", "$v\n")]);
    assert_eq!(refused("FROM a\nRUN <<EOF\nx"), "unterminated heredoc");
}

#[test]
fn errors_of_files_are_dockers() {
    for (text, expected) in [
        (
            "FROM a\nNOPE x",
            "dockerfile parse error on line 2: unknown instruction: NOPE (did you mean COPY?)",
        ),
        ("RUN x", "no build stage in current context"),
        ("FROM a\nENV", "dockerfile parse error on line 2: ENV requires at least one argument"),
        ("FROM a b", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            "dockerfile parse error on line 1: invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        ),
        (
            "FROM a\nCOPY x",
            "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "FROM a\nCOPY --chwn=1 x y",
            "dockerfile parse error on line 2: unknown flag: --chwn (did you mean chown?)",
        ),
        (
            "FROM a\nCOPY --link=maybe x y",
            "dockerfile parse error on line 2: expecting boolean value for flag --link, not: maybe",
        ),
        (
            "FROM a\nSHELL bash",
            "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form",
        ),
        (
            "FROM a\nADD x <<E\nE",
            "dockerfile parse error on line 2: ADD cannot accept a heredoc as a destination",
        ),
        (
            "FROM a\nRUN --mount=from=$x true",
            "dockerfile parse error on line 2: 'from' doesn't support variable expansion, define alias stage instead",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text:?}");
    }
    let warned = parse("FROM a\nRUN x \\\n\n  y\n");
    assert_eq!(warned.warnings, ["Empty continuation line found in: RUN x   y"]);
}

#[test]
fn mounts_are_read() {
    let none = Variables::default();
    let lexer = Lexer::new('\\', &none);
    let mount = |text: &str| Mount::parse(text, &lexer);
    let cache = mount("type=cache,target=/c,id=x,sharing=locked,mode=0755,uid=5").unwrap();
    assert_eq!(
        (cache.kind, cache.sharing, cache.mode, cache.read_only),
        (MountKind::Cache, Sharing::Locked, Some(0o755), false)
    );
    let bind = mount("src=a,dst=/b,from=base").unwrap();
    assert_eq!((bind.kind, bind.read_only, bind.from.as_str()), (MountKind::Bind, true, "base"));
    assert!(!mount("target=/b,rw").unwrap().read_only);
    assert_eq!(mount("type=tmpfs,target=/t,size=64m").unwrap().size, 64 << 20);
    assert!(mount("type=secret,id=x,required").unwrap().required);
    for (text, expected) in [
        ("type=nope", "unsupported mount type \"nope\""),
        ("type=bnd", "unsupported mount type \"bnd\" (did you mean bind?)"),
        ("targt=/x", "unexpected key 'targt' in 'targt=/x' (did you mean target?)"),
        ("type=bind,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=bind,uid=1", "uid not allowed for \"bind\" type mounts"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("loose", "invalid field 'loose' must be a key=value pair"),
        ("type=tmpfs,sharing=locked", "invalid cache sharing set for tmpfs mount"),
    ] {
        assert_eq!(mount(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn histories_have_gos_forms() {
    let comment = |line: &str| {
        let Instruction::Change(change) = parse_trigger(line).unwrap() else { panic!() };
        let mut config = wharf_spec::RunConfig::default();
        let none = Variables::default();
        let change = change.expand(&Lexer::new('\\', &none)).unwrap();
        change.clone().apply(&mut config, &mut false).unwrap();
        change.comment(&config)
    };
    assert_eq!(comment("CMD [\"a\", \"b \\\"c\\\"\"]"), "CMD [\"a\" \"b \\\"c\\\"\"]");
    assert_eq!(comment("ENTRYPOINT x\ty"), "ENTRYPOINT [\"/bin/sh\" \"-c\" \"x\\ty\"]");
    assert_eq!(comment("ENV a=\"b c\" d=e"), "ENV a=b c d=e");
    assert_eq!(comment("VOLUME /a /b"), "VOLUME [/a /b]");
    assert_eq!(comment("SHELL [\"/bin/bash\",\"-c\"]"), "SHELL [/bin/bash -c]");
    assert_eq!(
        comment("HEALTHCHECK --interval=5m CMD x"),
        "HEALTHCHECK &{Test:[CMD-SHELL x] Interval:5m0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"
    );
}
