//! One file for each rule, and one that is well.

use super::*;

fn found(source: &str) -> Vec<String> {
    found_with(source, &Options::default())
}

fn found_with(source: &str, options: &Options<'_>) -> Vec<String> {
    let text = |finding: Finding| format!("{} {}: {}", finding.start, finding.rule.name, finding.message);
    lint(source, options).unwrap().into_iter().map(text).collect()
}

#[test]
fn nothing_is_wrong_with_a_good_file() {
    let good = "# syntax=docker/dockerfile:1\nARG V=1\nFROM scratch AS base\nARG V\nENV A=1 B=$V\nWORKDIR /a\nWORKDIR b\n\
        COPY $B /c\nFROM base\nEXPOSE 80/tcp\nCMD [\"/x\"]\n";
    assert_eq!(found(good), Vec::<String>::new());
}

#[test]
// tidy: long, because it is a table.
fn each_rule_is_heard() {
    for (source, expected) in [
        ("FROM scratch AS Base\n", "1 StageNameCasing: Stage name 'Base' should be lowercase"),
        ("FROM scratch as base\n", "1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"),
        ("FROM scratch\nRUN a \\\n\n b\n", "2 NoEmptyContinuation: Empty continuation line"),
        (
            "FROM scratch\nRUN a\nrun b\n",
            "3 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
        ),
        (
            "FROM scratch AS a\nFROM scratch AS a\n",
            "2 DuplicateStageName: Duplicate stage name \"a\", stage names should be unique",
        ),
        (
            "FROM scratch AS context\n",
            "1 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
        ),
        (
            "FROM scratch\nCMD x\n",
            "2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        (
            "FROM scratch\nMAINTAINER me\n",
            "2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
        ),
        (
            "ARG VERSION=1\nFROM x:v${VERSIO}\n",
            "2 UndefinedArgInFrom: FROM argument 'VERSIO' is not declared (did you mean VERSION?)",
        ),
        (
            "FROM scratch\nWORKDIR a\n",
            "2 WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image changes",
        ),
        (
            "FROM scratch\nENV FOO=1\nCOPY $FO /\n",
            "3 UndefinedVar: Usage of undefined variable '$FO' (did you mean $FOO?)",
        ),
        (
            "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]\n",
            "2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM scratch\nENV a b\n",
            "2 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            "FROM --platform=$TARGETPLATFORM x\n",
            "1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            "FROM scratch\nENV MY_TOKEN=x\n",
            "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"MY_TOKEN\")",
        ),
        (
            "ARG T\nFROM x:${T}\n",
            "2 InvalidDefaultArgInFrom: Default value for ARG x:${T} results in empty or invalid base image name",
        ),
        (
            "FROM --platform=linux/s390x x\n",
            "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/s390x\"",
        ),
        (
            "FROM scratch\nEXPOSE 80/TCP\n",
            "2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        ),
        (
            "FROM scratch\nEXPOSE 1.2.3.4:80:80\n",
            "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1.2.3.4:80:80'",
        ),
        (
            "# check=experimental=all\nFROM scratch\n# what it is\nARG x=1\n",
            "4 InvalidDefinitionDescription: Comment for ARG should follow the format: `# x <description>`",
        ),
    ] {
        assert_eq!(found(source), [expected], "{source}");
    }
}

#[test]
fn ignored_files_cannot_be_copied() {
    let source =
        "FROM scratch\nCOPY . /\nCOPY ./log/x y /z/\nADD --chown=1 http://x/log /\nCOPY --from=a log /\n";
    let patterns = |text: &str| Patterns::read(text).unwrap();
    let found = |source, text| {
        let ignored = patterns(text);
        found_with(source, &Options { ignored: Some(&ignored), ..Options::default() })
    };
    let expected = "3 CopyIgnoredFile: Attempting to Copy file \"log/x\" that is excluded by .dockerignore";
    assert_eq!(found(source, "log\n"), [expected]);
    assert_eq!(found(source, "log\n!log/x\n"), Vec::<String>::new());
    assert_eq!(found("FROM scratch\nCOPY . /\n", "*\n").len(), 1);
}

#[test]
fn rules_are_skipped_where_the_file_says_so() {
    let all = "FROM scratch AS Base\nCMD x\n";
    assert_eq!(found(all).len(), 2);
    assert_eq!(found(&format!("# check=skip=all\n{all}")), Vec::<String>::new());
    assert_eq!(found(&format!("# check=skip=StageNameCasing, X;error=true\n{all}")).len(), 1);
    assert_eq!(found("FROM scratch\n# check=skip=JSONArgsRecommended\nCMD x\n"), Vec::<String>::new());
    let error = lint("# check=what=1\nFROM scratch\n", &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "invalid check option \"what\"");
    let arguments = [("BUILDKIT_DOCKERFILE_CHECK".to_owned(), "skip=all".to_owned())].into();
    assert_eq!(found_with(all, &Options { arguments, ..Options::default() }), Vec::<String>::new());
}

#[test]
fn variables_of_images_count_where_they_are_known() {
    let source = "FROM java AS a\nCOPY $JAVA_HOME /\nFROM a\nCOPY ${NO} /\n";
    assert_eq!(found(source), Vec::<String>::new());
    let environments = [("java".to_owned(), vec!["JAVA_HOME=/j".to_owned()])].into();
    let options = Options { environments, ..Options::default() };
    assert_eq!(found_with(source, &options), ["4 UndefinedVar: Usage of undefined variable '$NO'"]);
    let bases =
        bases("ARG V=8\nFROM java:$V AS a\nFROM a\nFROM scratch\nFROM 0\n", &BTreeMap::new()).unwrap();
    // A number is no stage here: it is an image of that name.
    assert_eq!(bases, ["java:8", "0"]);
}

#[test]
fn images_are_of_the_platform_that_is_built_for() {
    let platforms: BTreeMap<String, Platform> = [("arm".to_owned(), "linux/arm64".parse().unwrap())].into();
    let target = Some("linux/amd64".parse().unwrap());
    let options = Options { platforms, target, ..Options::default() };
    let file = "FROM other\nFROM --platform=$BUILDPLATFORM arm AS a\nFROM arm\n# check=skip=InvalidBaseImagePlatform\nFROM arm\n";
    let text = "3 InvalidBaseImagePlatform: Base image arm was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build";
    assert_eq!(found_with(file, &options).last().map(String::as_str), Some(text));
}

#[test]
fn findings_are_errors_where_the_file_or_the_build_says_so() {
    let none = BTreeMap::new();
    let given: BTreeMap<String, String> =
        [("BUILDKIT_DOCKERFILE_CHECK".to_owned(), "error=1".to_owned())].into();
    assert!(is_error("# check=error=true\nFROM x\n", &none).unwrap());
    assert!(!is_error("# check=error=false\nFROM x\n", &none).unwrap());
    assert!(is_error("FROM x\n", &given).unwrap());
    assert!(is_error("# check=error=maybe\nFROM x\n", &none).is_err());
}
