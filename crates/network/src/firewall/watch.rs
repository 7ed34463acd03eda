//! What others change in the host's rules, as the kernel tells it (`linux/netfilter/nfnetlink.h`,
//! `NFNLGRP_NFTABLES`): our table flushed or removed, or another FORWARD chain beside ours.
//!
//! A notice carries the port of the socket that asked for the change, by which our own changes are known.

use super::forward;
use crate::{
    error::{Error, Result},
    nl::{find_attr, text},
    publish::PublishAllow,
};
use std::time::Duration;
use wharf_sys::{
    event::wait_readable,
    netlink::{Family, Listener, Notice},
};

/// NFNLGRP_NFTABLES
const GROUP: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u16 = 10;
/// Others often change rules in several transactions; they are through when nothing comes for so long.
const QUIET: Duration = Duration::from_millis(20);
/// How many datagrams are read before something is done about them.
const MOST: usize = 500;

/// Whose tables somebody changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// Ours.
    pub(crate) own_table: bool,
    /// `filter` of iptables.
    pub(crate) filter: bool,
    /// The one with the set of those whom the host lets through.
    pub(crate) allowed: bool,
}

impl Changes {
    /// What may have happened when nobody knows.
    pub(crate) const ALL: Self = Self { own_table: true, filter: true, allowed: true };

    /// Whether there is anything to do.
    pub(crate) fn matter(self) -> bool {
        self.own_table || self.filter || self.allowed
    }

    /// What both say.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            own_table: self.own_table || other.own_table,
            filter: self.filter || other.filter,
            allowed: self.allowed || other.allowed,
        }
    }
}

/// An open ear.
#[derive(Debug)]
pub(crate) struct Watch {
    listener: Listener,
    /// Changes that are asked for by this port are our own.
    own_port: u32,
    table: String,
    allowed: Option<String>,
}

impl Watch {
    /// Hears of changes from now on, in the calling thread's network namespace.
    pub(crate) fn open(own_port: u32, table: &str, allow: &PublishAllow) -> Result<Self> {
        let listener =
            Listener::open(Family::Netfilter, GROUP).map_err(Error::system("listen to nftables"))?;
        let allowed = allow.set.as_ref().map(|set| set.table.clone());
        Ok(Self { listener, own_port, table: table.to_owned(), allowed })
    }

    /// What others have changed since, once they are through with it.
    pub(crate) fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        for _ in 0..MOST {
            match self.listener.next() {
                Ok(notices) => {
                    changes = notices.iter().map(|notice| self.read(notice)).fold(changes, Changes::and);
                }
                // Told too much at once.
                Err(_) => changes = Changes::ALL,
            }
            if !matches!(wait_readable(&self.listener, Some(QUIET)), Ok(true)) {
                break;
            }
        }
        changes
    }

    fn read(&self, notice: &Notice) -> Changes {
        let is_nftables = notice.message.kind >> 8 == SUBSYSTEM;
        if notice.port == self.own_port || !is_nftables {
            return Changes::default();
        }
        // The table is the first attribute of all that is in one; of what is not (NFT_MSG_NEWGEN) it is a number.
        let table = notice.message.payload.get(4..).and_then(|payload| find_attr(payload, 1)).map(text);
        Changes {
            own_table: table == Some(&self.table),
            filter: table == Some(forward::TABLE),
            allowed: table.is_some() && table == self.allowed.as_deref(),
        }
    }
}

impl std::os::fd::AsFd for Watch {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
