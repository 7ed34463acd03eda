//! Subnets and MAC addresses.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "self-evident")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both, in the order in which they are shown.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// An address's.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The address that stands for any.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Why a text is no subnet: the message of Go's `netip.ParsePrefix`, which clients see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("netip.ParsePrefix({text:?}): {reason}")]
pub struct ParseSubnetError {
    text: String,
    reason: String,
}

/// An address and the length of its network prefix, such as `172.17.0.1/16`. The address may have host
/// bits; [`Subnet::masked`] clears them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    address: IpAddr,
    bits: u8,
}

impl Subnet {
    /// `None` when `bits` exceeds the address's width.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        (bits <= width(address)).then_some(Self { address, bits })
    }

    /// A default pool or another constant of this crate.
    pub(crate) const fn v4(a: u8, b: u8, bits: u8) -> Self {
        assert!(bits <= 32);
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), bits }
    }

    /// A constant of this crate: the first 16 bits of a prefix.
    pub(crate) const fn v6(a: u16, bits: u8) -> Self {
        assert!(bits <= 128);
        Self { address: IpAddr::V6(Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, 0)), bits }
    }

    /// The address as written, host bits included.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the prefix.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The network itself, without host bits.
    pub fn masked(&self) -> Self {
        Self { address: from_number(number(self.address) & self.mask(), self.is_v4()), bits: self.bits }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// Whether it is IPv4.
    pub fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_v4()
            && number(address) & self.mask() == number(self.address) & self.mask()
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.bits <= other.bits { self.contains(other.address) } else { other.contains(self.address) }
    }

    /// The first address: the network's own.
    pub fn first(&self) -> IpAddr {
        self.masked().address
    }

    /// The last address: IPv4's broadcast address.
    pub fn last(&self) -> IpAddr {
        from_number(number(self.address) & self.mask() | self.host_mask(), self.is_v4())
    }

    /// The network mask, in network order.
    pub(crate) fn mask_octets(&self) -> Vec<u8> {
        octets(from_number(self.mask(), self.is_v4()))
    }

    fn host_mask(&self) -> u128 {
        let host_bits = u32::from(width(self.address) - self.bits);
        if host_bits == 128 { u128::MAX } else { (1 << host_bits) - 1 }
    }

    fn mask(&self) -> u128 {
        let all = if self.is_v4() { u128::from(u32::MAX) } else { u128::MAX };
        all & !self.host_mask()
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address as bytes in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An address as a number, to count with.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The reverse of [`number`]; for IPv4 the low 32 bits count.
pub(crate) fn from_number(value: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from(value as u32).into() } else { Ipv6Addr::from(value).into() }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: &str| ParseSubnetError {
            text: text.chars().take(100).collect(),
            reason: reason.to_owned(),
        };
        let (address, bits) = text.rsplit_once('/').ok_or_else(|| refuse("no '/'"))?;
        let address: IpAddr =
            address.parse().map_err(|_| refuse(&format!("ParseAddr({address:?}): unable to parse IP")))?;
        let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        if !plain || (bits.len() > 1 && bits.starts_with('0')) {
            return Err(refuse(&format!("bad bits after slash: {bits:?}")));
        }
        let length = bits.parse().ok().filter(|bits| *bits <= width(address));
        let bits = length.ok_or_else(|| refuse("prefix length out of range"))?;
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is no MAC address: the message of Go's `net.ParseMAC`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {0}: invalid MAC address")]
pub struct ParseMacError(String);

/// A 48-bit MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// A locally administered unicast address made of random bytes, as Docker 29 gives every endpoint
    /// without `--mac-address` (source: moby `daemon/libnetwork/netutils/utils.go`, `GenerateRandomMAC`).
    pub fn from_random(mut raw: [u8; 6]) -> Self {
        raw[0] = raw[0] & 0xfe | 0x02;
        Self(raw)
    }

    /// The six bytes.
    pub fn bytes(&self) -> &[u8; 6] {
        &self.0
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseMacError(text.chars().take(100).collect());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut raw = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut raw {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(refuse)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() { Err(refuse()) } else { Ok(Self(raw)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_parse_as_go_does() {
        let net: Subnet = "172.17.0.1/16".parse().unwrap();
        assert_eq!(net.masked().to_string(), "172.17.0.0/16");
        assert_eq!(net.last().to_string(), "172.17.255.255");
        assert_eq!(net.mask_octets(), [255, 255, 0, 0]);
        assert!(net.contains("172.17.9.9".parse().unwrap()));
        assert!(!net.contains("172.18.0.1".parse().unwrap()));
        assert!(!net.contains("::ac11:1".parse().unwrap()));
        assert_eq!("nope".parse::<Subnet>().unwrap_err().to_string(), "netip.ParsePrefix(\"nope\"): no '/'");
        for bad in ["1.2.3.4/33", "::1/129", "1.2.3/8", "1.2.3.4/", "1.2.3.4/+8", "1.2.3.4/08", "/8"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
        assert_eq!("::/0".parse::<Subnet>().unwrap().last(), IpAddr::V6(Ipv6Addr::from(u128::MAX)));
    }

    #[test]
    fn overlap_is_symmetric() {
        let wide: Subnet = "172.20.0.0/14".parse().unwrap();
        let narrow: Subnet = "172.23.255.0/24".parse().unwrap();
        let other: Subnet = "172.24.0.0/24".parse().unwrap();
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!wide.overlaps(&other) && !other.overlaps(&wide));
    }

    #[test]
    fn macs_parse_and_random_ones_are_local_unicast() {
        let mac: Mac = "02:42:ac:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02-42-AC-11-00-02".parse::<Mac>().unwrap(), mac);
        for bad in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "0g:42:ac:11:00:02", "2:42:ac:11:00:02"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert_eq!(Mac::from_random([0xff; 6]).bytes()[0], 0xfe);
        assert_eq!(Mac::from_random([0; 6]).bytes()[0], 2);
    }
}
