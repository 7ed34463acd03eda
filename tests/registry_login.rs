//! `docker login` at Debian's docker-registry.

use anyhow::Result;
use wharf_testkit::{Daemon, Registry, lacks};

/// `user` with the password `secret`, as bcrypt.
const USERS: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

#[test]
fn a_registry_takes_and_refuses_passwords() -> Result<()> {
    if lacks(&["docker-registry"]) {
        return Ok(());
    }
    let daemon = Daemon::start()?;
    let registry = Registry::start_with_users(daemon.net(), daemon.dir(), USERS)?;
    let login = |password: &str| {
        daemon.docker_stdin(
            &["login", "-u", "user", "--password-stdin", Registry::ADDRESS],
            password.as_bytes(),
        )
    };
    let refused = login("wrong")?;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("unauthorized"), "{}", refused.stderr);
    assert!(login("secret")?.ok()?.contains("Login Succeeded"));
    drop(registry);
    let nobody = login("secret")?;
    assert!(nobody.code == 1 && nobody.stderr.contains("connection refused"), "{}", nobody.stderr);
    daemon.stop()
}
