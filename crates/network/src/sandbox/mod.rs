//! A container's network namespace: made, wired to bridges, given addresses.

mod pool;
mod reaper;

pub(crate) use pool::{Pool, READY_INTERFACE};
pub(crate) use reaper::{Reaper, Removal};

use crate::{
    addr::{Mac, Subnet},
    error::{Error, Result},
    macvlan::{self, MacvlanMode},
    nl::{Channel, route},
    random, sysctl,
};
use std::{
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use wharf_sys::netns;

/// How a veth's host end is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wiring {
    /// Index of the bridge.
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
}

/// How a container's interface is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plug {
    /// A cable into a bridge.
    Cable(Wiring),
    /// A macvlan interface of a device of the host.
    Macvlan { parent: String, mode: MacvlanMode },
}

/// A namespace with its loopback up.
#[derive(Debug)]
pub(crate) struct Sandbox {
    namespace: OwnedFd,
    channel: Channel,
}

/// A veth between a namespace and the host, or another interface in the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cable {
    /// Its name on the host; empty where it has no end there.
    pub(crate) host_name: String,
    /// Its name in the container.
    pub(crate) name: String,
    /// Its index in the container.
    pub(crate) index: u32,
    /// How its host's end is plugged in.
    pub(crate) wiring: Option<Wiring>,
}

/// What a cable's inner end gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addressing {
    /// IPv4 address and prefix length.
    pub(crate) v4: Option<Subnet>,
    /// IPv6 address and prefix length.
    pub(crate) v6: Option<Subnet>,
    pub(crate) mac: Mac,
    /// Where everything else goes, of each family.
    pub(crate) default_gateways: Vec<IpAddr>,
}

/// What is needed of the host to make cables. Whoever may have to wait long for the kernel has one of his own:
/// a channel is held until the kernel has answered.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) channel: Channel,
    /// The alias that marks interfaces as this daemon's.
    pub(crate) alias: String,
}

impl Host {
    /// In the calling thread's network namespace.
    pub(crate) fn open(alias: &str) -> Result<Self> {
        Ok(Self { channel: Channel::route()?, alias: alias.to_owned() })
    }
}

impl Sandbox {
    /// A new namespace.
    pub(crate) fn create() -> Result<Self> {
        let made = netns::create_with(Channel::route).map_err(Error::system("make network namespace"))?;
        Self { namespace: made.0, channel: made.1? }.with_loopback()
    }

    /// A fresh namespace that somebody else made.
    pub(crate) fn take(namespace: OwnedFd) -> Result<Self> {
        Self::open(namespace)?.with_loopback()
    }

    /// An existing namespace.
    pub(crate) fn open(namespace: OwnedFd) -> Result<Self> {
        let channel = netns::in_netns(&namespace, Channel::route)
            .map_err(Error::system("enter network namespace"))??;
        Ok(Self { namespace, channel })
    }

    fn with_loopback(self) -> Result<Self> {
        self.channel.run(&[route::set_up("lo")], "set up", "lo")?;
        Ok(self)
    }

    /// The namespace's descriptor.
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Makes a cable: both ends up, the inner one without address and without IPv6.
    pub(crate) fn plug(&self, host: &Host, name: &str, wiring: &Wiring) -> Result<Cable> {
        let host_name = format!("veth{}", random::hex(7)?);
        let pair = route::VethPair {
            host_name: &host_name,
            peer_name: name,
            peer_namespace: self.namespace(),
            bridge: wiring.bridge,
            mtu: wiring.mtu,
        };
        let requests = [
            route::add_veth(&pair),
            route::set_alias(&host_name, &host.alias),
            route::set_hairpin(&host_name),
        ];
        let plugged =
            host.channel.run(&requests, "make interface", &host_name).and_then(|()| self.bring_up(name));
        match plugged {
            Ok(index) => Ok(Cable { host_name, name: name.into(), index, wiring: Some(wiring.clone()) }),
            Err(error) => {
                // Its failure would only repeat the first one.
                let _ = host.channel.run(&[route::delete_link(&host_name)], "remove", &host_name);
                Err(error)
            }
        }
    }

    /// Makes an interface of either kind: up, without address and without IPv6.
    pub(crate) fn connect(&self, host: &Host, name: &str, plug: &Plug) -> Result<Cable> {
        match plug {
            Plug::Cable(wiring) => self.plug(host, name, wiring),
            Plug::Macvlan { parent, mode } => self.share(host, name, parent, *mode),
        }
    }

    /// Makes an interface of a device of the host.
    fn share(&self, host: &Host, name: &str, parent: &str, mode: MacvlanMode) -> Result<Cable> {
        let index = macvlan::parent(host, parent)?;
        let request = route::add_macvlan(name, index, mode, self.namespace());
        host.channel.run(&[request], "create the macvlan port of", parent)?;
        match self.bring_up(name) {
            Ok(index) => Ok(Cable { host_name: String::new(), name: name.into(), index, wiring: None }),
            Err(error) => {
                // Its failure would only repeat the first one.
                let _ = self.channel.run(&[route::delete_link(name)], "remove", name);
                Err(error)
            }
        }
    }

    /// Takes away an interface that has no end on the host; one that is gone is fine.
    pub(crate) fn unplug(&self, name: &str) -> Result<()> {
        match self.channel.ask(&route::delete_link(name)) {
            Ok(_) => Ok(()),
            Err(error) if route::is_gone(&error) => Ok(()),
            Err(source) => {
                Err(Error::Netlink { operation: "remove interface", subject: name.to_owned(), source })
            }
        }
    }

    /// Makes the inner end ready for addresses; its index.
    fn bring_up(&self, name: &str) -> Result<u32> {
        self.prepare_inner(name)?;
        self.channel.run(&[route::set_up(name)], "set up", name)?;
        let link = self.channel.link(name)?;
        link.map(|link| link.index).ok_or_else(|| Error::UnknownSandbox(format!("interface {name}")))
    }

    /// IPv6 off, as Docker has it on networks without IPv6; neighbours are told of a new MAC address.
    fn prepare_inner(&self, name: &str) -> Result<()> {
        netns::in_netns(&self.namespace, || {
            sysctl::set_if_present(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
            sysctl::set_if_present(&format!("ipv4/conf/{name}/arp_notify"), "1")?;
            sysctl::set_if_present(&format!("ipv6/conf/{name}/ndisc_notify"), "1")?;
            Ok(())
        })
        .map_err(Error::system("enter network namespace"))?
    }

    /// Switches IPv6 on for an interface.
    fn enable_v6(&self, name: &str) -> Result<()> {
        netns::in_netns(&self.namespace, || sysctl::set(&format!("ipv6/conf/{name}/disable_ipv6"), "0"))
            .map_err(Error::system("enter network namespace"))?
            .map(drop)
    }

    /// Moves a cable's host end into another bridge.
    pub(crate) fn replug(&self, host: &Host, cable: &mut Cable, wiring: &Wiring) -> Result<()> {
        if cable.wiring.as_ref() == Some(wiring) {
            return Ok(());
        }
        let requests = [
            route::set_bridge(&cable.host_name, wiring.bridge),
            route::set_hairpin(&cable.host_name),
            route::set_mtu(&cable.host_name, wiring.mtu),
        ];
        host.channel.run(&requests, "change interface", &cable.host_name)?;
        self.channel.run(&[route::set_mtu(&cable.name, wiring.mtu)], "change interface", &cable.name)?;
        cable.wiring = Some(wiring.clone());
        Ok(())
    }

    /// Gives a cable's inner end its addresses. The MAC address comes after them: with an address already there,
    /// setting it makes the kernel tell the neighbours, who may remember an earlier container's. The link-local
    /// address, which is made when IPv6 is switched on, is made of it.
    pub(crate) fn address(&self, cable: &Cable, addressing: &Addressing) -> Result<()> {
        let set_mac = || route::set_mac(cable.index, addressing.mac);
        let mut requests: Vec<_> =
            addressing.v4.iter().map(|address| route::add_address(cable.index, address)).collect();
        requests.push(set_mac());
        if let Some(address) = &addressing.v6 {
            self.channel.run(&requests, "configure interface", &cable.name)?;
            self.enable_v6(&cable.name)?;
            requests = vec![route::add_address(cable.index, address), set_mac()];
        }
        let gateways = addressing.default_gateways.iter();
        requests.extend(gateways.map(|gateway| route::add_default_route(cable.index, *gateway)));
        self.channel.run(&requests, "configure interface", &cable.name)
    }

    /// Gives a cable's inner end further addresses.
    pub(crate) fn add_addresses(&self, cable: &Cable, addresses: &[Subnet]) -> Result<()> {
        let requests: Vec<_> =
            addresses.iter().map(|address| route::add_address(cable.index, address)).collect();
        self.channel.run(&requests, "configure interface", &cable.name)
    }

    /// Sets kernel parameters of an interface: `net.X.Y.IFNAME.Z=V`.
    pub(crate) fn set_parameters(&self, interface: &str, parameters: &[String]) -> Result<()> {
        if parameters.is_empty() {
            return Ok(());
        }
        netns::in_netns(&self.namespace, || {
            parameters.iter().try_for_each(|parameter| sysctl::set_of_interface(interface, parameter))
        })
        .map_err(Error::system("enter network namespace"))?
    }

    /// Sends what has no better way to a gateway behind an interface.
    pub(crate) fn set_default_gateway(&self, index: u32, gateway: IpAddr) -> Result<()> {
        self.channel.run(
            &[route::add_default_route(index, gateway)],
            "set default route to",
            &gateway.to_string(),
        )
    }

    /// Takes addresses away at once, so that the next container can have them although the interface is
    /// removed later. A namespace that has lost them already is fine.
    pub(crate) fn silence(&self, index: u32, addresses: impl Iterator<Item = Subnet>) -> Result<()> {
        let mut result = Ok(());
        for address in addresses {
            result = result.and(self.take_away(index, &address));
        }
        result
    }

    fn take_away(&self, index: u32, address: &Subnet) -> Result<()> {
        match self.channel.ask(&route::delete_address(index, address)) {
            Ok(_) => Ok(()),
            Err(error) if route::is_gone(&error) => Ok(()),
            Err(source) => {
                Err(Error::Netlink { operation: "take away address", subject: address.to_string(), source })
            }
        }
    }
}
