//! BuildKit's rules (source: buildkit `frontend/dockerfile/linter/ruleset.go`).

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as `check=skip=` takes it.
    pub name: &'static str,
    /// Where it is explained.
    pub url: &'static str,
    /// It is looked at only when it is asked for.
    pub is_experimental: bool,
}

macro_rules! rules {
    ($($constant:ident $name:literal $page:literal;)*) => {
        $(pub(super) const $constant: Rule = Rule {
            name: $name,
            url: concat!("https://docs.docker.com/go/dockerfile/rule/", $page, "/"),
            is_experimental: false,
        };)*
    };
}

rules! {
    STAGE_NAME_CASING "StageNameCasing" "stage-name-casing";
    FROM_AS_CASING "FromAsCasing" "from-as-casing";
    NO_EMPTY_CONTINUATION "NoEmptyContinuation" "no-empty-continuation";
    CONSISTENT_INSTRUCTION_CASING "ConsistentInstructionCasing" "consistent-instruction-casing";
    DUPLICATE_STAGE_NAME "DuplicateStageName" "duplicate-stage-name";
    RESERVED_STAGE_NAME "ReservedStageName" "reserved-stage-name";
    JSON_ARGS_RECOMMENDED "JSONArgsRecommended" "json-args-recommended";
    MAINTAINER_DEPRECATED "MaintainerDeprecated" "maintainer-deprecated";
    UNDEFINED_ARG_IN_FROM "UndefinedArgInFrom" "undefined-arg-in-from";
    WORKDIR_RELATIVE_PATH "WorkdirRelativePath" "workdir-relative-path";
    UNDEFINED_VAR "UndefinedVar" "undefined-var";
    MULTIPLE_INSTRUCTIONS_DISALLOWED "MultipleInstructionsDisallowed" "multiple-instructions-disallowed";
    LEGACY_KEY_VALUE_FORMAT "LegacyKeyValueFormat" "legacy-key-value-format";
    REDUNDANT_TARGET_PLATFORM "RedundantTargetPlatform" "redundant-target-platform";
    SECRETS_USED_IN_ARG_OR_ENV "SecretsUsedInArgOrEnv" "secrets-used-in-arg-or-env";
    INVALID_DEFAULT_ARG_IN_FROM "InvalidDefaultArgInFrom" "invalid-default-arg-in-from";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED "FromPlatformFlagConstDisallowed" "from-platform-flag-const-disallowed";
    INVALID_BASE_IMAGE_PLATFORM "InvalidBaseImagePlatform" "invalid-base-image-platform";
    COPY_IGNORED_FILE "CopyIgnoredFile" "copy-ignored-file";
    EXPOSE_PROTO_CASING "ExposeProtoCasing" "expose-proto-casing";
    EXPOSE_INVALID_FORMAT "ExposeInvalidFormat" "expose-invalid-format";
}

pub(super) const INVALID_DEFINITION_DESCRIPTION: Rule = Rule {
    name: "InvalidDefinitionDescription",
    url: "https://docs.docker.com/go/dockerfile/rule/invalid-definition-description/",
    is_experimental: true,
};

/// Which rules are looked at (`ParseLintOptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    skipped: Names,
    experimental: Names,
    /// A finding is an error.
    pub(super) is_error: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    some: Vec<String>,
}

impl Names {
    fn read(text: &str) -> Self {
        let text = text.trim();
        let some = text.split(',').map(|name| name.trim().to_owned()).collect();
        Self { all: text == "all", some }
    }

    fn have(&self, rule: &Rule) -> bool {
        self.all || self.some.iter().any(|name| name == rule.name)
    }
}

impl Config {
    /// `skip=A,B;experimental=all;error=true`
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        if text.trim().is_empty() {
            return Ok(config);
        }
        for part in text.trim().splitn(3, ';') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("invalid check option {}", crate::quote(part)))?;
            match key.trim() {
                "skip" => config.skipped = Names::read(value),
                "experimental" => config.experimental = Names::read(value),
                "error" if matches!(value.trim(), "true" | "false" | "1" | "0") => {
                    config.is_error = matches!(value.trim(), "true" | "1");
                }
                "error" => return Err(format!("failed to parse check option {}", crate::quote(part))),
                other => return Err(format!("invalid check option {}", crate::quote(other))),
            }
        }
        Ok(config)
    }

    pub(super) fn wants(&self, rule: &Rule) -> bool {
        if rule.is_experimental { self.experimental.have(rule) } else { !self.skipped.have(rule) }
    }
}
