//! A container's `/etc/hosts` (source: moby `daemon/libnetwork/etchosts/etchosts.go` and
//! `sandbox_dns_unix.go`).

use std::{fmt::Write as _, net::IpAddr};

/// What every file begins with.
const IPV4: [(&str, &str); 1] = [("127.0.0.1", "localhost")];
const IPV6: [(&str, &str); 5] = [
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
];

/// What the file is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts<'a> {
    /// `--hostname`
    pub hostname: &'a str,
    /// `--domainname`; may be empty.
    pub domainname: &'a str,
    /// The container's addresses, one line each.
    pub addresses: &'a [IpAddr],
    /// `--add-host` and links: name and address.
    pub extra: &'a [(String, IpAddr)],
    /// The container has `::1`: without it no IPv6 line is written.
    pub ipv6: bool,
}

impl Hosts<'_> {
    /// The file's content.
    pub fn generate(&self) -> String {
        let mut text = String::new();
        for (address, names) in IPV4.iter().chain(if self.ipv6 { IPV6.as_slice() } else { &[] }) {
            let _ = writeln!(text, "{address}\t{names}");
        }
        let shown = |address: &IpAddr| self.ipv6 || address.is_ipv4();
        for (name, address) in self.extra.iter().filter(|(_, address)| shown(address)) {
            let _ = writeln!(text, "{address}\t{name}");
        }
        let names = self.own_names();
        for address in self.addresses.iter().filter(|address| shown(address)) {
            let _ = writeln!(text, "{address}\t{names}");
        }
        text
    }

    /// The full name and the part before its first dot.
    fn own_names(&self) -> String {
        let mut names = self.hostname.to_owned();
        if !self.domainname.is_empty() {
            names = format!("{names}.{}", self.domainname);
        }
        match names.split_once('.') {
            Some((short, _)) => format!("{names} {short}"),
            None => names,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_dockers() {
        let extra =
            [("db".to_owned(), "10.0.0.5".parse().unwrap()), ("six".into(), "fd00::5".parse().unwrap())];
        let hosts = Hosts {
            hostname: "web",
            domainname: "example.org",
            addresses: &["172.17.0.2".parse().unwrap()],
            extra: &extra,
            ipv6: true,
        };
        assert_eq!(
            hosts.generate(),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.5\tdb\n\
             fd00::5\tsix\n172.17.0.2\tweb.example.org web\n"
        );
        let plain = Hosts { domainname: "", ipv6: false, ..hosts };
        assert_eq!(plain.generate(), "127.0.0.1\tlocalhost\n10.0.0.5\tdb\n172.17.0.2\tweb\n");
    }
}
