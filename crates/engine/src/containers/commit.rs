//! `POST /commit`: an image of what a container changed (source: moby `daemon/commit.go`,
//! `CreateImageFromContainer`).

use super::{CommitOptions, Container, Containers, merge::merge_image};
use crate::{
    Error, Result,
    images::{CommitImage, changed_config, run_config},
    state::Verb,
};
use std::sync::Arc;
use wharf_api::container as api;
use wharf_spec::{ImageId, Platform};

impl Containers {
    /// Makes an image of a container. Carried through even if nobody waits for it, so that a container that
    /// was frozen for it never stays so.
    ///
    /// # Errors
    /// When there is no such container, it is dead or being removed, a change is wrong or the disk fails.
    pub async fn commit(&self, id_or_name: &str, options: CommitOptions) -> Result<ImageId> {
        let container = self.get(id_or_name)?;
        container.check(Verb::Commit)?;
        if container.with(|state| state.removing) {
            let id = &container.id;
            return Err(Error::Conflict(format!("You cannot commit container {id} which is being removed")));
        }
        let engine = self.clone();
        let work = tokio::spawn(async move { engine.commit_checked(&container, options).await });
        work.await.map_err(|error| if error.is_panic() { Error::Panicked } else { Error::ShuttingDown })?
    }

    async fn commit_checked(&self, container: &Arc<Container>, options: CommitOptions) -> Result<ImageId> {
        let frozen = options.pause && self.pause(container.id.as_str()).await.is_ok();
        let committed = self.commit_frozen(container, options).await;
        if frozen && let Err(error) = self.unpause(container.id.as_str()).await {
            tracing::warn!(container = %container.id, %error, "could not thaw a container after its commit");
        }
        committed
    }

    async fn commit_frozen(&self, container: &Arc<Container>, options: CommitOptions) -> Result<ImageId> {
        let (own, parent, os) = container.with(|state| {
            let record = &state.record;
            (record.config.clone(), record.image.clone(), record.image_platform.os.clone())
        });
        let config = commit_config(&own, options.config, &options.changes)?;
        let image = CommitImage {
            layer_of: Some(container.id.clone()),
            container: container.id.to_string(),
            parent: parent.parse().ok(),
            platform: Platform::new(&os, "", ""),
            author: options.author,
            comment: options.comment.clone(),
            created: None,
            reference: options.reference.clone(),
            config: run_config(&config)?,
            container_config: run_config(&own)?,
        };
        let name = options.reference.as_ref().map(|name| name.familiar_string()).unwrap_or_default();
        let id = self.parts().images.commit(image).await?;
        let attributes = [("comment", options.comment), ("imageID", id.to_string()), ("imageRef", name)];
        self.emit(container, "commit", attributes.map(|(k, v)| (k.to_owned(), v)).into());
        Ok(id)
    }
}

/// The container's config, or the one that is given with what it leaves open from the container's, changed.
fn commit_config(own: &api::Config, given: Option<api::Config>, changes: &[String]) -> Result<api::Config> {
    let mut config = changed_config(given.unwrap_or_else(|| own.clone()), changes)?;
    merge_image(&mut config, &run_config(own)?);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn what_is_given_and_changed_goes_before_the_containers_own() {
        let own = api::Config {
            hostname: "box".into(),
            env: words(&["A=own", "B=own"]),
            cmd: words(&["sh"]),
            entrypoint: words(&["/entry"]),
            labels: Some([("k".to_owned(), "own".to_owned())].into()),
            ..api::Config::default()
        };
        let plain = commit_config(&own, None, &[]).unwrap();
        assert_eq!(plain, own);
        let changes = ["ENV A=new".to_owned(), "ENTRYPOINT [\"/new\"]".to_owned(), "EXPOSE 80".to_owned()];
        let changed = commit_config(&own, None, &changes).unwrap();
        assert_eq!(changed.env, words(&["A=new", "B=own"]));
        assert_eq!((changed.entrypoint, changed.cmd), (words(&["/new"]), None));
        assert_eq!(changed.exposed_ports.len(), 1);
        let given = api::Config { user: "me".into(), env: words(&["C=given"]), ..api::Config::default() };
        let merged = commit_config(&own, Some(given), &[]).unwrap();
        assert_eq!(merged.env, words(&["C=given", "A=own", "B=own"]));
        assert_eq!((merged.user.as_str(), merged.cmd), ("me", words(&["sh"])));
        assert_eq!(merged.hostname, "", "only what an image may say is taken over");
        let error = commit_config(&own, None, &["NOPE x".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "NOPE is not a valid change command");
    }
}
