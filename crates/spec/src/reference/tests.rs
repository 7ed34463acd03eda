//! References as Docker reads them.

use super::*;

const HEX: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

fn parse(text: &str) -> ImageRef {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn error(text: &str) -> String {
    text.parse::<ImageRef>().map(|r| r.to_string()).expect_err(text).to_string()
}

#[test]
fn familiar_names_are_filled_in_and_found_again() {
    for (text, full, familiar) in [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
        ("user/app:v1", "docker.io/user/app:v1", "user/app:v1"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
        ("[::1]:5000/app:x", "[::1]:5000/app:x", "[::1]:5000/app:x"),
        ("[2001:db8::1]/repo", "[2001:db8::1]/repo", "[2001:db8::1]/repo"),
        ("Host/app", "Host/app", "Host/app"),
        ("a__b/c.d-e---f", "docker.io/a__b/c.d-e---f", "a__b/c.d-e---f"),
        ("lower:UPPER", "docker.io/library/lower:UPPER", "lower:UPPER"),
        ("192.168.1.1:5000", "docker.io/library/192.168.1.1:5000", "192.168.1.1:5000"),
        ("foo_bar.com/x", "foo_bar.com/x", "foo_bar.com/x"),
    ] {
        let parsed = parse(text);
        assert_eq!(parsed.to_string(), full, "{text}");
        assert_eq!(parsed.familiar_string(), familiar, "{text}");
        assert_eq!(parse(full), parsed, "{text}");
    }
    assert_eq!(parse("foo_bar.com/x").domain(), "");
}

#[test]
fn tag_and_digest_may_stand_together() {
    let both = parse(&format!("app:v1@sha256:{HEX}"));
    assert_eq!((both.tag(), both.digest().map(Digest::hex)), (Some("v1"), Some(HEX.to_owned())));
    assert_eq!(both.to_string(), format!("docker.io/library/app:v1@sha256:{HEX}"));
    assert_eq!(both.clone().without_tag().familiar_string(), format!("app@sha256:{HEX}"));
    assert_eq!(both.repository().or_latest().to_string(), "docker.io/library/app:latest");
    assert_eq!(both.clone().or_latest(), both);
    assert_eq!(parse("app").with_tag("a b"), Err(ParseReferenceError::Tag));
}

#[test]
fn errors_are_dockers() {
    let long_tag = format!("a:{}", "t".repeat(129));
    for text in [
        "",
        ":justtag",
        "a:",
        "a@",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a._b",
        "a b",
        "aé",
        "aa/asdf$$^/aa",
        "[2001:db8::1]",
        "[fe80::1%eth0]:5000/repo",
        "a@sha256:abc",
        "foo_bar.com:80/x",
        "host:port/x",
        "host:/x",
        "a:b:c",
        &long_tag,
        "example.com./x",
        "h.com/a@b@c",
    ] {
        assert_eq!(error(text), "invalid reference format", "{text}");
    }
    assert_eq!(error("UPPER"), "invalid reference format: repository name (library/UPPER) must be lowercase");
    assert_eq!(error("h:5000/Up/x:1"), "invalid reference format: repository name (Up/x) must be lowercase");
    assert_eq!(error("FOO_bar.com/x"), "repository name must be lowercase");
    assert_eq!(error(&"a".repeat(256)), "repository name must not be more than 255 characters");
    assert!(format!("example.com/{}:tag", "a".repeat(255)).parse::<ImageRef>().is_ok());
    assert_eq!(
        error(HEX),
        format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")
    );
    assert_eq!(error(&format!("a@sha256:{}", &HEX[..34])), "invalid checksum digest length");
    assert_eq!(error(&format!("a@sha256:{}", HEX.to_uppercase())), "invalid checksum digest format");
    assert_eq!(error(&format!("a@sha512:{HEX}{HEX}")), "unsupported digest algorithm");
}

#[test]
fn ids_are_told_from_names() {
    assert_eq!(HEX.parse::<AnyRef>().unwrap(), format!("sha256:{HEX}").parse::<AnyRef>().unwrap());
    assert_eq!("busybox".parse::<AnyRef>().unwrap(), AnyRef::Named(parse("busybox")));
    assert!(is_id_like("abc") && is_id_like("sha256:0f") && is_id_like(HEX));
    assert!(!is_id_like("") && !is_id_like("xyz") && !is_id_like("ABC") && !is_id_like(&format!("{HEX}0")));
}

#[test]
fn patterns_match_as_gos_path_match() {
    for (pattern, text, fits) in [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("ab[b-d]", "abc", true),
        ("ab[^b-d]", "abc", false),
        ("a\\*b", "a*b", true),
        ("a?b", "a/b", false),
        ("[\\]a]", "]", true),
        ("*", "", true),
        ("", "a", false),
    ] {
        assert_eq!(path_match(pattern, text), Ok(fits), "{pattern} {text}");
    }
    for bad in ["[]a]", "[-]", "[x-]", "[", "[^", "[^bc", "a\\", "[a-b-c]"] {
        assert_eq!(path_match(bad, "a"), Err(BadPattern), "{bad}");
    }
    assert_eq!(parse("busybox:1").familiar_match("busy*"), Ok(true));
    assert_eq!(parse("a/busybox:1").familiar_match("busy*"), Ok(false));
    assert_eq!(parse("a/busybox:1").familiar_match("*/busybox"), Ok(true));
}
