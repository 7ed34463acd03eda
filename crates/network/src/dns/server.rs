//! The tasks that read queries and answer them.

use super::{
    Forwarding, Sockets,
    forward::{self, Origin, read_message, write_message},
    message::{Query, Question, Transport},
    names::{Family, Meaning, Names},
};
use crate::{
    error::{Error, Result},
    random,
};
use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Handle,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// Questions of one container that are asked of others at the same time, and of all containers.
const MOST_FORWARDED_EACH: usize = 128;
const MOST_FORWARDED: usize = 1024;
/// How long a question waits for its turn (source: moby `daemon/libnetwork/resolver.go`, extIOTimeout).
const TURN: Duration = Duration::from_secs(4);
/// Connections of one container at the same time.
const MOST_CONNECTIONS: usize = 64;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Longest query over UDP that is read; more is cut off and then understood by nobody.
const LONGEST_QUERY: usize = 4096;
/// Pause after a socket failed, so that a lasting failure does not burn a core.
const RETRY: Duration = Duration::from_millis(100);

/// Serves the containers of one daemon.
#[derive(Debug)]
pub(crate) struct Server {
    runtime: Handle,
    names: Arc<Names>,
    turns: Arc<Semaphore>,
    /// By container.
    serving: Mutex<BTreeMap<String, [JoinHandle<()>; 2]>>,
}

/// One container's questions.
struct Client {
    container: String,
    names: Arc<Names>,
    forwarding: Forwarding,
    namespace: Arc<OwnedFd>,
    own_turns: Semaphore,
    turns: Arc<Semaphore>,
}

impl Server {
    /// Tasks run on `runtime`.
    pub(crate) fn new(runtime: Handle, names: Arc<Names>) -> Self {
        let turns = Arc::new(Semaphore::new(MOST_FORWARDED));
        Self { runtime, names, turns, serving: Mutex::default() }
    }

    /// Answers a container from now on, in place of what was done for it before.
    pub(crate) fn serve(
        &self,
        container: &str,
        sockets: &Sockets,
        namespace: OwnedFd,
        forwarding: Forwarding,
    ) -> Result<()> {
        let client = Arc::new(Client {
            container: container.to_owned(),
            names: Arc::clone(&self.names),
            forwarding,
            namespace: Arc::new(namespace),
            own_turns: Semaphore::new(MOST_FORWARDED_EACH),
            turns: Arc::clone(&self.turns),
        });
        let (udp, tcp) = self.register(sockets).map_err(Error::system("serve DNS"))?;
        let tasks = [
            self.runtime.spawn(serve_udp(Arc::new(udp), Arc::clone(&client))),
            self.runtime.spawn(serve_tcp(tcp, client)),
        ];
        let earlier = self.lock().insert(container.to_owned(), tasks);
        earlier.into_iter().flatten().for_each(|task| task.abort());
        Ok(())
    }

    /// Answers a container no more.
    pub(crate) fn stop(&self, container: &str) {
        let tasks = self.lock().remove(container);
        tasks.into_iter().flatten().for_each(|task| task.abort());
    }

    fn register(&self, sockets: &Sockets) -> io::Result<(UdpSocket, TcpListener)> {
        let _context = self.runtime.enter();
        let udp = UdpSocket::from_std(sockets.udp.try_clone()?.into())?;
        Ok((udp, TcpListener::from_std(sockets.tcp.try_clone()?.into())?))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, [JoinHandle<()>; 2]>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let serving = std::mem::take(&mut *self.lock());
        serving.into_values().flatten().for_each(|task| task.abort());
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, client: Arc<Client>) {
    let mut forwarded = JoinSet::new();
    let mut buffer = vec![0; LONGEST_QUERY];
    loop {
        while forwarded.try_join_next().is_some() {}
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(container = client.container, %error, "DNS query not received");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let Some(query) = Query::parse(&buffer[..length]) else { continue };
        if let Some(answer) = client.answer(&query, Transport::Udp) {
            // A client that is gone needs no answer.
            let _ = socket.send_to(&answer, from).await;
            continue;
        }
        let (socket, client, query) = (Arc::clone(&socket), Arc::clone(&client), buffer[..length].to_vec());
        forwarded.spawn(async move {
            if let Some(answer) = client.forward(&query, Transport::Udp).await {
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, client: Arc<Client>) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(converse(stream, Arc::clone(&client)))),
            Err(error) => {
                tracing::debug!(container = client.container, %error, "DNS connection not accepted");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Answers the queries of a connection until it is closed, silent, or sends what is no query.
async fn converse(mut stream: TcpStream, client: Arc<Client>) {
    while let Ok(Ok(bytes)) = timeout(SILENCE, read_message(&mut stream)).await {
        let Some(local) = Query::parse(&bytes).map(|query| client.answer(&query, Transport::Tcp)) else {
            return;
        };
        let answer = match local {
            Some(answer) => Some(answer),
            None => client.forward(&bytes, Transport::Tcp).await,
        };
        let Some(answer) = answer else { return };
        match timeout(SILENCE, write_message(&mut stream, &answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

impl Client {
    /// The answer from our own names; `None` when others are to be asked.
    fn answer(&self, query: &Query<'_>, transport: Transport) -> Option<Vec<u8>> {
        match &query.question {
            Question::Address(name, family) => match self.resolve(name, *family) {
                Meaning::Addresses(addresses) => query.addresses(&shuffled(addresses), transport),
                Meaning::Unknown if self.forwarding.single_labels_stay && is_single_label(name) => {
                    query.addresses(&[], transport)
                }
                Meaning::Unknown => None,
            },
            // A name of ours takes its own mail (RFC 5321, 5.1): there is no record, and no error.
            Question::Mail(name) => match self.resolve(name, Family::V4) {
                Meaning::Addresses(_) => query.addresses(&[], transport),
                Meaning::Unknown => None,
            },
            Question::Pointer(address) => {
                self.names.reverse(&self.container, *address).and_then(|name| query.name(&name, transport))
            }
            Question::Other => None,
        }
    }

    fn resolve(&self, name: &str, family: Family) -> Meaning {
        self.names.resolve(&self.container, name, family)
    }

    /// The answer of others, or that there is none.
    async fn forward(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let origin = Origin {
            namespace: Arc::clone(&self.namespace),
            may_use_host: self.names.has_way_out(&self.container),
        };
        let turns = async { (self.own_turns.acquire().await, self.turns.acquire().await) };
        let Ok(_turn) = timeout(TURN, turns).await else { return Query::parse(query)?.refusal() };
        match forward::ask(query, transport, &self.forwarding, &origin).await {
            Some(answer) => Some(answer),
            None => Query::parse(query)?.failure(),
        }
    }
}

fn is_single_label(name: &str) -> bool {
    !name.trim_end_matches('.').contains('.')
}

/// In another order each time: clients take the first, and the load spreads.
fn shuffled(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    for last in (1..addresses.len()).rev() {
        let random = random::bytes().map_or(0, u32::from_ne_bytes) as usize;
        addresses.swap(last, random % (last + 1));
    }
    addresses
}
