//! What json-file and local write beside each line: labels, environment variables and a tag
//! (source: moby `daemon/logger/loginfo.go`, ExtraAttributes; `daemon/logger/loggerutils/log_tag.go`).

use crate::{Error, Result, logging::Origin};
use regex_lite::Regex;
use std::collections::BTreeMap;
use wharf_api::container as api;

/// Whose log it is.
pub(crate) struct LogOwner<'a> {
    pub(crate) id: &'a str,
    /// With or without Docker's slash before it.
    pub(crate) name: &'a str,
    /// The image's id with its algorithm; empty without image.
    pub(crate) image: &'a str,
    /// Program and arguments.
    pub(crate) command: &'a [String],
    pub(crate) config: &'a api::Config,
}

impl LogOwner<'_> {
    /// The attributes that these options ask for, by name.
    ///
    /// # Errors
    /// For a pattern that is none, and for a tag that is no template or names what there is not.
    pub(crate) fn attributes(&self, options: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
        let mut found = BTreeMap::new();
        let labels = self.config.labels.iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()));
        choose(options, ["labels", "labels-regex"], labels.collect(), &mut found)?;
        let env = self.config.env.iter().flatten().filter_map(|entry| entry.split_once('='));
        choose(options, ["env", "env-regex"], env.collect(), &mut found)?;
        if let Some(template) = options.get("tag").filter(|tag| !tag.is_empty()) {
            let tag = self.tag(template)?;
            if !tag.is_empty() {
                found.insert("tag".into(), tag);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// What messages to receivers elsewhere say of the container.
    ///
    /// # Errors
    /// As [`Self::attributes`].
    pub(crate) fn origin(&self, options: &BTreeMap<String, String>, created: &str) -> Result<Origin> {
        let mut attributes = self.attributes(options)?;
        attributes.retain(|(key, _)| key != "tag");
        let template = options.get("tag").map(String::as_str).filter(|tag| !tag.is_empty());
        Ok(Origin {
            id: self.id.to_owned(),
            name: self.name.trim_start_matches('/').to_owned(),
            image: self.config.image.clone(),
            image_id: self.image.to_owned(),
            command: self.command.join(" "),
            created: created.to_owned(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tag: self.tag(template.unwrap_or("{{.ID}}"))?,
            attributes,
        })
    }

    fn tag(&self, template: &str) -> Result<String> {
        super::log_tag::tag(self, template)
            .map_err(|why| Error::Refused(format!("failed to initialize logging driver: log opt tag: {why}")))
    }
}

/// Takes what a list of names and a pattern for names ask for.
fn choose(
    options: &BTreeMap<String, String>,
    [list, pattern]: [&str; 2],
    of: BTreeMap<&str, &str>,
    found: &mut BTreeMap<String, String>,
) -> Result<()> {
    let given = |key: &str| options.get(key).filter(|value| !value.is_empty());
    let names: Vec<&str> = given(list).into_iter().flat_map(|list| list.split(',')).collect();
    let pattern = given(pattern).map(|text| {
        let bad = |why| {
            format!("failed to initialize logging driver: invalid value for {pattern}: {text:?}: {why}")
        };
        Regex::new(text).map_err(|why| Error::Refused(bad(why)))
    });
    let pattern = pattern.transpose()?;
    for (name, value) in of {
        if names.contains(&name) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name)) {
            found.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(options: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        let config = api::Config {
            image: "busybox".into(),
            labels: Some([("com.a".into(), "1".into()), ("b".into(), "2".into())].into()),
            env: Some(vec!["APP_X=3".into(), "bare".into(), "Y=4".into()]),
            ..Default::default()
        };
        let owner = LogOwner {
            id: "0123456789abcdef",
            name: "/web",
            image: "sha256:fedcba9876543210",
            command: &["sh".into(), "-c".into()],
            config: &config,
        };
        let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        owner.attributes(&options).map_err(|error| error.to_string())
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn lists_and_patterns_choose() {
        assert_eq!(
            attributes(&[("labels", "b,none"), ("env", "Y,bare")]).unwrap(),
            pairs(&[("Y", "4"), ("b", "2")])
        );
        assert_eq!(
            attributes(&[("labels-regex", r"^com\."), ("env-regex", "^(APP|NO)_")]).unwrap(),
            pairs(&[("APP_X", "3"), ("com.a", "1")])
        );
        assert_eq!(attributes(&[("labels-regex", "")]).unwrap(), []);
        let error = attributes(&[("env-regex", "(")]).unwrap_err();
        assert!(error.contains("invalid value for env-regex: \"(\""), "{error}");
    }

    #[test]
    fn tags_are_filled_in() {
        let tag = |template: &str| attributes(&[("tag", template)]).unwrap()[0].1.clone();
        assert_eq!(tag("plain"), "plain");
        assert_eq!(tag("{{.ImageName}}/{{.Name}}/{{ .ID }} {{.Command}}"), "busybox/web/0123456789ab sh -c");
        assert_eq!(tag("{{.ImageID}}|{{.ContainerName}}"), "fedcba987654|/web");
        assert_eq!(tag("{{upper .Name}}-{{truncate .FullID 3}}"), "WEB-012");
        assert_eq!(tag("{{.Name | title}} {{join .ContainerArgs \"+\"}}"), "Web -c");
        assert_eq!(tag("{{range split .ImageName \"y\"}}[{{.}}]{{end}}"), "[bus][box]");
        assert_eq!(
            tag("{{index .ContainerLabels \"com.a\"}} {{json .ContainerEnv}}"),
            "1 [\"APP_X=3\",\"bare\",\"Y=4\"]"
        );
        assert_eq!(tag("{{if eq .Name \"web\"}}yes{{else}}no{{end}}{{pad \"x\" 1 1}}"), "yes x ");
        for wrong in ["{{.Nope}}", "{{.Name", "{{nosuch .Name}}"] {
            let error = attributes(&[("tag", wrong)]).unwrap_err();
            assert!(error.contains("log opt tag: "), "{error}");
        }
    }
}
