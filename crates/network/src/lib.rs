//! Container networking: bridges, addresses, published ports, the firewall, and the files about names.
//!
//! Role: everything that a container's network is, in the kernel and as text. Netlink and nftables are spoken
//! directly; no program is started.
//!
//! Entry point: [`Fabric`]. [`Fabric::open`] takes over what an earlier daemon left; [`Fabric::attach`] gives a
//! container its namespace, [`Fabric::detach`] takes it away. [`resolv`] and [`hosts`] make the files.
//!
//! | module | what it knows |
//! |---|---|
//! | [`Fabric`] | networks and containers as a whole: allocation, order, undo, restore |
//! | `ipam` | which subnets and addresses are taken |
//! | `proxy` | what no redirection of published ports can do |
//! | `ports` | which ports are taken, and the sockets that hold them |
//! | `bridge` | bridge devices |
//! | `macvlan` | devices of the host that containers share |
//! | `sandbox` | namespaces and their cables; those made ahead; removal in the background |
//! | `dns` | the embedded DNS server |
//! | `firewall` | the nftables table, and rules beside a dropping FORWARD policy |
//! | `nl` | netlink messages |
//!
//! Files on disk, below the daemon's exec-root (a tmpfs, since nothing of this survives a reboot):
//! `network/sandboxes/<container>.json` a container that has networking; `<sandbox>.removing` one whose remains
//! are being removed; `network/forwarding-enabled`, `-v6` it was us who switched forwarding on;
//! `netns/<12 hex>` the namespace's name (`SandboxKey`), an nsfs mount.
//!
//! Invariants: a record is on disk before a container is reachable, and goes last. Whatever carries our mark (an
//! interface's alias, a rule's comment, the table's name) and has no record is removed at the next start.
//! Rules, interfaces and parameters of others are never changed, `ip_forward` excepted.
#![forbid(unsafe_code)]

mod addr;
mod bridge;
mod dns;
mod error;
mod fabric;
mod firewall;
pub mod hosts;
mod ipam;
mod macvlan;
mod nl;
mod ports;
mod proxy;
mod publish;
mod random;
mod record;
pub mod resolv;
mod sandbox;
mod sysctl;

pub use addr::{Family, Mac, ParseMacError, ParseSubnetError, Subnet};
pub use bridge::{AddressSpec, Addresses, BridgeNetwork, BridgeSpec, GatewayMode};
pub use dns::{ADDRESS as RESOLVER, Forwarding};
pub use error::{Error, Result};
pub use fabric::{
    Attachment, Connected, EndpointRequest, Fabric, FabricConfig, Filtering, IpForwarding, Republished,
    SandboxRequest,
};
pub use ipam::{AddressPool, Ipam};
pub use macvlan::MacvlanMode;
pub use ports::{ParseProtocolError, PortBinding, PortRequest, Protocol, Reservation};
pub use publish::{AllowRule, AllowSet, ParseAllowError, PublishAllow};
pub use record::{Endpoint, OpenLink};
