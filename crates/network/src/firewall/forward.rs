//! Our rules in the `filter` tables of others.
//!
//! An accept in our own table cannot undo a drop in another. Where the FORWARD chain of `ip filter`, or `ip6 filter`, drops by
//! policy (ufw, Docker), rules that accept what comes from and goes to our bridges are put into DOCKER-USER
//! when FORWARD leads there, behind the administrator's own and before its closing RETURN; else at the head of
//! FORWARD. Our own table still drops what is not published. The rules carry a comment by which they are
//! found and removed, and have only what iptables-nft can show: one expression it does not know makes
//! `iptables` refuse the whole table. Rules of others are read, never changed.

use super::{
    batch::{Batch, kind, message},
    expr::{Expressions, Interface, META_IIFNAME, META_OIFNAME, Verdict},
};
use crate::{
    addr::Family,
    error::{Error, Result},
    nl::{Channel, Message, attrs, find_attr, route::is_gone, text},
};
use wharf_sys::netlink::{APPEND, CREATE, DUMP};

pub(super) const TABLE: &str = "filter";
const FORWARD: &str = "FORWARD";
const USER: &str = "DOCKER-USER";

/// NFTNL_UDATA_RULE_COMMENT
const COMMENT: u8 = 0;
/// NFT_JUMP, NFT_GOTO, NFT_RETURN
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// A rule of somebody, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    handle: u64,
    ours: bool,
    /// Its verdict's code and chain, when there is one.
    verdict: Option<(i32, String)>,
    /// It has nothing but a verdict (and perhaps a counter).
    unconditional: bool,
    /// The interface it is about: whether packets go out of it, and its name.
    interface: Option<(bool, String)>,
}

/// Where new rules go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head(&'static str),
    Tail(&'static str),
    Before(&'static str, u64),
}

/// Makes the rules for exactly these ways into and out of bridges.
pub(super) fn allow(
    channel: &Channel,
    family: Family,
    mark: &str,
    ways: &[(Interface, String)],
) -> Result<()> {
    let Some(drops) = forward_drops(channel, family)? else { return Ok(()) };
    let forward = rules(channel, family, FORWARD, mark)?;
    let user = rules(channel, family, USER, mark)?;
    let place = place(&forward, &user);
    if is_done(if drops { ways } else { &[] }, place, &forward, &user) {
        return Ok(());
    }
    let mut batch = Batch::new(family);
    delete_ours(&mut batch, FORWARD, &forward);
    delete_ours(&mut batch, USER, &user);
    if drops {
        for (interface, bridge) in ways {
            insert(&mut batch, family, place, mark, |rule| {
                rule.interface_for_iptables(*interface, bridge).counter().verdict(&Verdict::Accept);
            });
        }
    }
    batch.commit(channel, "add rules to", TABLE)
}

/// Removes our rules.
pub(super) fn withdraw(channel: &Channel, family: Family, mark: &str) -> Result<()> {
    let mut batch = Batch::new(family);
    for chain in [FORWARD, USER] {
        delete_ours(&mut batch, chain, &rules(channel, family, chain, mark)?);
    }
    batch.commit(channel, "remove rules from", TABLE)
}

/// Whether the rules for these ways are there, at their place, and no other of ours. Without this two daemons that
/// hear of each other's changes would never rest.
fn is_done(ways: &[(Interface, String)], place: Place, forward: &[Rule], user: &[Rule]) -> bool {
    let ours = |rules: &[Rule]| -> Vec<_> {
        rules.iter().filter(|rule| rule.ours).filter_map(|rule| rule.interface.clone()).collect()
    };
    let (mut here, elsewhere) = match place {
        Place::Head(_) => (ours(forward), ours(user)),
        Place::Tail(_) | Place::Before(..) => (ours(user), ours(forward)),
    };
    let mut wanted: Vec<_> =
        ways.iter().map(|(way, bridge)| (*way == Interface::Out, bridge.clone())).collect();
    here.sort();
    wanted.sort();
    here == wanted && elsewhere.is_empty()
}

fn place(forward: &[Rule], user: &[Rule]) -> Place {
    let leads_there = |rule: &Rule| {
        rule.verdict.as_ref().is_some_and(|(code, chain)| matches!(*code, JUMP | GOTO) && chain == USER)
    };
    if !forward.iter().any(leads_there) {
        return Place::Head(FORWARD);
    }
    match user.iter().rfind(|rule| !rule.ours) {
        Some(last) if last.unconditional && matches!(last.verdict, Some((RETURN, _))) => {
            Place::Before(USER, last.handle)
        }
        _ => Place::Tail(USER),
    }
}

fn insert(
    batch: &mut Batch,
    family: Family,
    place: Place,
    mark: &str,
    expressions: impl FnOnce(&mut Expressions<'_, '_>),
) {
    let (chain, flags, position) = match place {
        Place::Head(chain) => (chain, 0, None),
        Place::Tail(chain) => (chain, APPEND, None),
        Place::Before(chain, handle) => (chain, 0, Some(handle)),
    };
    batch.message(kind::NEW_RULE, CREATE | flags, |body| {
        body.attr_text(1, TABLE);
        body.attr_text(2, chain);
        body.nest(4, |list| expressions(&mut Expressions { list, family }));
        if let Some(handle) = position {
            body.attr(6, &handle.to_be_bytes());
        }
        body.attr(7, &comment(mark));
    });
}

fn delete_ours(batch: &mut Batch, chain: &str, rules: &[Rule]) {
    for rule in rules.iter().filter(|rule| rule.ours) {
        batch.message(kind::DELETE_RULE, 0, |body| {
            body.attr_text(1, TABLE);
            body.attr_text(2, chain);
            body.attr(3, &rule.handle.to_be_bytes());
        });
    }
}

/// A comment in a rule's user data: type, length, text with its NUL.
fn comment(mark: &str) -> Vec<u8> {
    let mut bytes = vec![COMMENT, (mark.len() + 1) as u8];
    bytes.extend_from_slice(mark.as_bytes());
    bytes.push(0);
    bytes
}

/// Whether FORWARD of `filter` drops by policy; `None` when there is no such chain.
fn forward_drops(channel: &Channel, family: Family) -> Result<Option<bool>> {
    let request = message(family, kind::GET_CHAIN, 0, |body| {
        body.attr_text(1, TABLE);
        body.attr_text(3, FORWARD);
    });
    let Some(answer) = look(channel, &request)? else { return Ok(None) };
    let policy = answer.iter().find_map(|message| {
        let policy = find_attr(message.payload.get(4..)?, 5)?;
        Some(u32::from_be_bytes(policy.try_into().ok()?))
    });
    Ok(Some(policy == Some(0)))
}

/// The rules of a chain of `filter`, none when it does not exist.
fn rules(channel: &Channel, family: Family, chain: &str, mark: &str) -> Result<Vec<Rule>> {
    let request = message(family, kind::GET_RULE, DUMP, |body| {
        body.attr_text(1, TABLE);
        body.attr_text(2, chain);
    });
    let Some(answer) = look(channel, &request)? else { return Ok(Vec::new()) };
    let mark = comment(mark);
    // The kernel may answer with more than it was asked for.
    let of_chain = |payload: &&[u8]| find_attr(payload, 2).map(text) == Some(chain);
    let payloads = answer.iter().filter_map(|message| message.payload.get(4..));
    Ok(payloads.filter(of_chain).filter_map(|payload| read_rule(payload, &mark)).collect())
}

fn read_rule(payload: &[u8], mark: &[u8]) -> Option<Rule> {
    let handle = u64::from_be_bytes(find_attr(payload, 3)?.try_into().ok()?);
    let mut rule = Rule { handle, ours: false, verdict: None, unconditional: true, interface: None };
    let mut is_out = None;
    for (_, expression) in attrs(find_attr(payload, 4).unwrap_or_default()) {
        match find_attr(expression, 1).map(text) {
            Some("immediate") => rule.verdict = find_attr(expression, 2).and_then(read_verdict),
            Some("counter") => {}
            Some("meta") => {
                is_out = find_attr(expression, 2).and_then(read_interface_end);
                rule.unconditional = false;
            }
            Some("cmp") => {
                let name = find_attr(expression, 2).and_then(|data| find_attr(find_attr(data, 3)?, 1));
                rule.interface = is_out.zip(name.map(|name| text(name).to_owned()));
                rule.unconditional = false;
            }
            _ => rule.unconditional = false,
        }
    }
    rule.ours = find_attr(payload, 7).is_some_and(|data| data == mark);
    Some(rule)
}

/// Whether the name that is loaded is that of the interface by which packets leave.
fn read_interface_end(meta: &[u8]) -> Option<bool> {
    match u32::from_be_bytes(find_attr(meta, 2)?.try_into().ok()?) {
        META_IIFNAME => Some(false),
        META_OIFNAME => Some(true),
        _ => None,
    }
}

fn read_verdict(immediate: &[u8]) -> Option<(i32, String)> {
    let verdict = find_attr(find_attr(immediate, 2)?, 2)?;
    let code = i32::from_be_bytes(find_attr(verdict, 1)?.try_into().ok()?);
    Some((code, find_attr(verdict, 2).map(text).unwrap_or_default().to_owned()))
}

/// Asks for something that may not exist.
fn look(channel: &Channel, request: &Message) -> Result<Option<Vec<Message>>> {
    match channel.ask(request) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => {
            Err(Error::Netlink { operation: "read", subject: "nftables table filter".into(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(handle: u64, verdict: (i32, &str), unconditional: bool) -> Rule {
        let verdict = Some((verdict.0, verdict.1.into()));
        Rule { handle, ours: false, verdict, unconditional, interface: None }
    }

    #[test]
    fn dockers_chain_is_used_only_when_forward_leads_there() {
        let user = [rule(7, (RETURN, ""), true)];
        assert_eq!(place(&[], &user), Place::Head(FORWARD));
        let forward = [rule(3, (JUMP, USER), true)];
        assert_eq!(place(&forward, &user), Place::Before(USER, 7));
        assert_eq!(place(&forward, &[]), Place::Tail(USER));
        assert_eq!(place(&forward, &[rule(7, (RETURN, ""), false)]), Place::Tail(USER));
        let mut ours = rule(9, (1, ""), false);
        ours.ours = true;
        assert_eq!(place(&forward, &[user[0].clone(), ours]), Place::Before(USER, 7));
    }
}
