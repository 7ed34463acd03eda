//! Which crate may use which, from `cargo metadata`.

use serde_json::Value;

/// The allowed edges. Dev-dependencies are free: tests may look anywhere.
const EDGES: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("api", &["spec"]),
    ("dockerfile", &["spec"]),
    ("sys", &["spec"]),
    ("archive", &["spec", "sys"]),
    ("logs", &["spec", "sys"]),
    ("network", &["spec", "sys"]),
    ("runtime", &["spec", "sys"]),
    ("store", &["spec", "sys", "archive"]),
    ("registry", &["spec"]),
    ("build", &["spec", "sys", "dockerfile", "archive", "store", "registry"]),
    (
        "engine",
        &["api", "spec", "sys", "dockerfile", "archive", "logs", "store", "registry", "network", "build"],
    ),
    ("shim", &["spec", "sys", "logs", "runtime"]),
    ("daemon", &["api", "spec", "engine"]),
    ("cli", &["api", "spec", "dockerfile", "archive", "registry"]),
    ("testkit", &["spec", "sys", "archive"]),
    ("fuzzing", &["spec", "archive", "store"]),
    ("tests", &[]),
];

/// One line for each edge that is not allowed, and for each crate that the table does not know.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    for package in array(&metadata["packages"]) {
        let Some(name) = text(&package["name"]).strip_prefix("wharf-") else { continue };
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            findings
                .push(format!("crate {name} is not in the table of edges (crates/xtask/src/tidy/edges.rs)"));
            continue;
        };
        for dependency in array(&package["dependencies"]) {
            let dev = text(&dependency["kind"]) == "dev";
            let Some(used) = text(&dependency["name"]).strip_prefix("wharf-") else { continue };
            if !dev && !allowed.contains(&used) {
                findings.push(format!("{name} may not use {used}"));
            }
        }
    }
    findings
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, uses: &str, kind: Value) -> Value {
        json!({"packages": [{"name": name, "dependencies": [{"name": uses, "kind": kind}]}]})
    }

    #[test]
    fn a_forbidden_edge_is_found() {
        let found = check(&package("wharf-daemon", "wharf-runtime", Value::Null));
        assert_eq!(found, ["daemon may not use runtime"]);
        assert!(check(&package("wharf-daemon", "wharf-runtime", json!("dev"))).is_empty());
        assert!(check(&package("wharf-daemon", "wharf-engine", Value::Null)).is_empty());
        assert_eq!(check(&package("wharf-new", "serde", Value::Null)).len(), 1);
    }
}
