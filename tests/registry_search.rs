//! `docker search` at a registry that searches, and at others.

use anyhow::Result;
use wharf_testkit::{Daemon, OwnRegistry};

const OWN: &str = "127.0.0.1:5001";

#[test]
fn repositories_are_found_and_filtered() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = OwnRegistry::start(daemon.net(), OWN)?;
    registry.faults(|faults| {
        faults.found =
            vec![("base".into(), 10, true), ("team/base".into(), 300, false), ("x".into(), 1, false)];
    });
    let term = format!("{OWN}/base");
    for args in [
        &["search", &term][..],
        &["search", "--no-trunc", &term],
        &["search", "--limit", "5", "--filter", "stars=5", &term],
        &[
            "search",
            "--filter",
            "is-official=true",
            "--format",
            "{{.Name}} {{.StarCount}} {{.IsOfficial}}",
            &term,
        ],
        &["search", "--format", "json", "--filter", "is-official=false", &term],
        &["search", "--format", "table {{.Name}}\t{{.Description}}", &term],
        &["search", "--filter", "is-automated=true", &term],
        &["search", "--filter", "nosuch=1", &term],
        &["search", "--filter", "stars=x", &term],
        &["search", "--limit", "101", &term],
        &["search", "http://x/y"],
        &["search", "127.0.0.1:5099/x"],
    ] {
        let (theirs, ours) = (daemon.docker(args)?, daemon.wharf(args)?);
        assert_eq!(
            (ours.code, &ours.stdout, &ours.stderr),
            (theirs.code, &theirs.stdout, &theirs.stderr),
            "{args:?}"
        );
    }
    let found = daemon.docker(&["search", "--filter", "stars=5", &term])?.ok()?;
    assert!(found.contains("team/base") && found.contains("[OK]") && !found.contains("\nx "), "{found}");
    let asked = registry.seen("GET", "/v1/search?q=base&n=5");
    assert!(!asked.is_empty() && asked[0].header("x-docker-token") == "true");
    // A registry that does not search.
    registry.faults(|faults| faults.search_status = Some(404));
    let refused = daemon.docker(&["search", &term])?;
    assert!(refused.stderr.contains("unexpected status code 404"), "{}", refused.stderr);
    daemon.stop()
}
