//! Lines, words and instructions, held against what moby's own parser makes of them.

use super::*;
use wharf_spec::RunConfig;

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|s| (*s).to_owned()).collect())
}

fn applied(changes: &[&str]) -> Result<RunConfig> {
    let mut config = RunConfig {
        env: words(&["PATH=/bin", "A=one"]),
        cmd: words(&["sh"]),
        entrypoint: words(&["/entry"]),
        working_dir: "/w/x".into(),
        ..RunConfig::default()
    };
    let changes: Vec<String> = changes.iter().map(|s| (*s).to_owned()).collect();
    apply_changes(&mut config, &changes).map(|()| config)
}

fn refused(change: &str) -> String {
    applied(&[change]).unwrap_err().to_string()
}

#[test]
fn files_become_lines() {
    let read = |text: &str| {
        lines(text).map(|l| l.lines.into_iter().map(|l| (l.text, l.start, l.end)).collect::<Vec<_>>())
    };
    assert_eq!(
        read("\u{feff}# a comment\n\n  ENV a \\\n# inside\n\n  b\\ \nUSER x\\").unwrap(),
        [("ENV a   bUSER x".to_owned(), 3, 7)]
    );
    assert_eq!(read("A \\\\\nB").unwrap(), [("A \\\\".to_owned(), 1, 1), ("B".to_owned(), 2, 2)]);
    assert_eq!(
        read("# escape=`\nA `\nB\nC \\").unwrap(),
        [("A B".to_owned(), 2, 3), ("C \\".to_owned(), 4, 4)]
    );
    assert_eq!(read("ENV a\n# escape=`\nB \\\nC").unwrap().len(), 2, "directives stand at the top");
    assert_eq!(
        read("#syntax=x\n# Escape = ?\nA").unwrap_err().to_string(),
        "invalid escape token '?' does not match ` or \\"
    );
    assert_eq!(read("#escape=`\n#escape=`\nA").unwrap_err(), Error::DirectiveTwice("escape".into()));
    assert_eq!(read("# only\n\n").unwrap_err(), Error::NoInstructions);
    let long = format!("A\nB {}\n", "x".repeat(70_000));
    assert_eq!(
        read(&long).unwrap_err().to_string(),
        "dockerfile line greater than max allowed size of 65535"
    );
}

#[test]
fn lines_become_statements() {
    let parse = |line: &str| Statement::parse(line, '\\').unwrap();
    let cmd = parse(r#"CMD  [ "a", "b c" ]"#);
    assert_eq!((cmd.name.as_str(), cmd.arguments), ("CMD", Arguments::Json(words(&["a", "b c"]).unwrap())));
    assert_eq!(parse("cmd [not json").arguments, Arguments::Plain(words(&["[not json"]).unwrap()));
    assert_eq!(parse("RUN --mount=type=x --a=\"b c\" -- --echo hi").flags, ["--mount=type=x", "--a=b c"]);
    assert_eq!(parse("RUN --x -- --echo hi").arguments.words(), ["--echo hi"]);
    assert_eq!(
        parse(r#"ENV a="b c" d=e\ f 'g'=h"#).arguments,
        Arguments::Pairs(
            [("a", "\"b c\""), ("d", "e\\ f"), ("'g'", "h")].map(|(k, v)| (k.into(), v.into())).into()
        )
    );
    assert_eq!(parse("ENV a b  c=d").arguments, Arguments::Pairs(vec![("a".into(), "b  c=d".into())]));
    assert_eq!(parse("ARG a b=\"c d\"").arguments.words(), ["a", "b=\"c d\""]);
    assert_eq!(parse("NOPE x").arguments, Arguments::None);
    assert_eq!(Statement::parse("VOLUME [1]", '\\').unwrap_err(), Error::NotStrings);
}

#[test]
fn every_change_is_applied() {
    let config = applied(&[
        "ENV A=two B=\"x $A\" C='$A'\nenv D ${A:-none} \"q\"",
        "CMD [\"run\", \"it\"]",
        "EXPOSE 80 53/UDP 7000-7002",
        "HEALTHCHECK --interval=5s --retries=3 CMD curl -f http://x/ || exit 1",
        "LABEL a.b=\"c d\" e=$A",
        "ONBUILD  RUN [\"x\"]",
        "STOPSIGNAL SIGQUIT",
        "USER $A:grp",
        "VOLUME [\"/data\", \"/$A\"]",
        "VOLUME /v1 /v2",
        "WORKDIR ../y/./z",
    ])
    .unwrap();
    // Variables of one instruction have the values from before it.
    assert_eq!(config.env, words(&["PATH=/bin", "A=two", "B=x one", "C=$A", "D=two q"]));
    assert_eq!(config.cmd, words(&["run", "it"]));
    assert_eq!(
        config.exposed_ports.keys().collect::<Vec<_>>(),
        ["53/udp", "7000/tcp", "7001/tcp", "7002/tcp", "80/tcp"]
    );
    let health = config.healthcheck.unwrap();
    assert_eq!(health.test, words(&["CMD-SHELL", "curl -f http://x/ || exit 1"]));
    assert_eq!((health.interval, health.retries), (5_000_000_000, 3));
    let labels = config.labels.unwrap();
    assert_eq!((labels["a.b"].as_str(), labels["e"].as_str()), ("c d", "two"));
    assert_eq!(config.on_build, words(&["RUN [\"x\"]"]));
    assert_eq!((config.stop_signal.as_str(), config.user.as_str()), ("SIGQUIT", "two:grp"));
    assert_eq!(config.volumes.unwrap().keys().collect::<Vec<_>>(), ["/data", "/two", "/v1", "/v2"]);
    assert_eq!(config.working_dir, "/w/y/z");
}

#[test]
fn an_entry_point_resets_a_command_that_was_there_before() {
    let both = |changes: &[&str]| applied(changes).map(|c| (c.entrypoint, c.cmd)).unwrap();
    assert_eq!(both(&["ENTRYPOINT /run me"]), (words(&["/bin/sh", "-c", "/run me"]), None));
    assert_eq!(both(&["CMD a", "ENTRYPOINT [\"b\"]"]), (words(&["b"]), words(&["/bin/sh", "-c", "a"])));
    assert_eq!(both(&["ENTRYPOINT []"]), (None, None));
    assert_eq!(both(&["CMD []"]).1, words(&[]));
    let mut config = RunConfig { shell: words(&["/bin/bash", "-ec"]), ..RunConfig::default() };
    apply_changes(&mut config, &["CMD x".into()]).unwrap();
    assert_eq!(config.cmd, words(&["/bin/bash", "-ec", "x"]));
}

#[test]
fn errors_are_dockers() {
    for (change, error) in [
        ("NOPE x", "NOPE is not a valid change command"),
        ("run true", "run is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("", "file with no instructions"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("ENV =x", "ENV names can not be blank"),
        ("ENV --x a=b", "unknown flag: --x"),
        ("LABEL a", "LABEL must have two arguments"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL SIGNOPE", "invalid signal: SIGNOPE"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 80/xyz", "invalid proto: xyz"),
        ("EXPOSE 90-80", "invalid containerPort: 90-80"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ENV a", "ENV must have two arguments"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK run x", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms"),
        ("HEALTHCHECK --timeout=5 CMD x", "time: missing unit in duration \"5\""),
        ("HEALTHCHECK --retries=x CMD y", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("HEALTHCHECK --retries=-1 CMD y", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --intervall=5s CMD x", "unknown flag: --intervall (did you mean interval?)"),
        ("HEALTHCHECK --interval CMD x", "missing a value on flag: --interval"),
        ("HEALTHCHECK --interval=1s --interval=2s CMD x", "duplicate flag specified: --interval"),
        ("USER ${A", "failed to process \"${A\": unsupported modifier (\u{fffd}) in substitution"),
        ("USER ${NO:?gone}", "failed to process \"${NO:?gone}\": NO: gone"),
    ] {
        assert_eq!(refused(change), error, "{change}");
    }
}

/// As buildkit's tables of words have it, in part.
#[test]
fn words_are_resolved_as_by_docker() {
    let env = ["PWD=/home", "SHELL=bash", "NULL=", "F=a.tar.gz", "P=/a/b/c"].map(str::to_owned);
    let variables = Variables::of(&env);
    let lexer = Lexer::new('\\', &variables);
    for (word, wanted) in [
        ("he'll'o", Some("hello")),
        ("he'llo", None),
        (r"he\'llo", Some("he'llo")),
        (r"abc\tdef", Some("abctdef")),
        (r#""abc\tdef""#, Some(r"abc\tdef")),
        (r#""abc\\tdef""#, Some(r"abc\tdef")),
        (r"'abc\tdef'", Some(r"abc\tdef")),
        (r"hello\", Some("hello")),
        (r#""hello\""#, None),
        (r#""hel'lo""#, Some("hel'lo")),
        ("$.", Some("$.")),
        ("he$1x", Some("hex")),
        ("he$PWD", Some("he/home")),
        (r"he\$PWD", Some("he$PWD")),
        (r"he\\$PWD", Some(r"he\/home")),
        (r#""he\$PWD""#, Some("he$PWD")),
        ("he${}", None),
        ("he${hi}xx", Some("hexx")),
        ("he${.}", None),
        ("he${XXX:-000}xx", Some("he000xx")),
        ("he${XXX:-${YYY:-yyy}}xx", Some("heyyyxx")),
        ("he${XXX:YYY}", None),
        ("he${XXX?}", None),
        ("he${NULL?}", Some("he")),
        ("he${NULL:?}", None),
        ("he${NULL-x}", Some("he")),
        ("he${NULL:-x}", Some("hex")),
        ("he${PWD:+${SHELL}}xx", Some("hebashxx")),
        ("he${XXX:+000}xx", Some("hexx")),
        ("'he${XX}'", Some("he${XX}")),
        ("\"he'$PWD'\"", Some("he'/home'")),
        ("he${PWD:=000}xx", None),
        (r"he${XXX:-\${PWD}z}xx", Some("he${PWDz}xx")),
        ("${{aaa}", None),
        ("${aaa}}", Some("}")),
        ("${aaa:-bbb", None),
        ("안녕$PWD", Some("안녕/home")),
        ("${F%.*}", Some("a.tar")),
        ("${F%%.*}", Some("a")),
        ("${F#*.}", Some("tar.gz")),
        ("${F##*.}", Some("gz")),
        ("${F%.??}", Some("a.tar")),
        (r"${F#\*}", Some("a.tar.gz")),
        ("${P/\\//_}", Some("_a/b/c")),
        ("${P//\\//_}", Some("_a_b_c")),
        ("${F/t*r/x}", Some("a.x.gz")),
        ("${P/b}", None),
        ("$$", Some("")),
        ("${@:-b}", Some("b")),
    ] {
        assert_eq!(lexer.word(word).ok().as_deref(), wanted, "{word}");
    }
    let deep = format!("{}{}", "${a:-".repeat(10_000), "}".repeat(10_000));
    assert!(lexer.word(&deep).is_err(), "an error, not the end of the stack");
}

#[test]
fn blanks_of_variables_split_words_unless_quoted() {
    let env = ["space=abc  def".to_owned(), "trailing=ab c   ".to_owned()];
    let variables = Variables::of(&env);
    let lexer = Lexer::new('\\', &variables);
    for (text, wanted) in [
        ("hello${space}bye", &["helloabc", "defbye"][..]),
        ("hello\"${space}\"bye", &["helloabc  defbye"]),
        ("hello \"${space}\"bye", &["hello", "abc  defbye"]),
        ("hello${trailing}d", &["helloab", "c", "d"]),
        ("hello\\ there", &["hello there"]),
        ("hello\\\" there", &["hello\"", "there"]),
    ] {
        assert_eq!(lexer.words(text).unwrap(), wanted, "{text}");
    }
}
