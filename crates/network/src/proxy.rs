//! The proxy of published ports: it passes on what no redirection can.
//!
//! The kernel translates no IPv6 address into one of IPv4, so that a container without IPv6 is not redirected to; and it
//! forwards nothing from `::1` or a link-local address. Such clients reach the socket that holds the port, which one
//! task here serves, for TCP and UDP. Their own address is not seen by the container then, as with Docker's
//! `docker-proxy`, which this stands for (source: moby `cmd/docker-proxy`).

use crate::ports::{Protocol, Reservation};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Handle,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// Bytes that wait in each direction of a connection.
const BUFFER: usize = 64 << 10;
/// The longest datagram.
const LONGEST: usize = 65_535;
/// Connections of one port at the same time, and clients of one UDP port.
const MOST_CLIENTS: usize = 4096;
/// How long a UDP client may be silent before he is forgotten (source: moby `cmd/docker-proxy/udp_proxy_linux.go`).
const SILENCE: Duration = Duration::from_secs(90);
/// Pause after a socket failed, so that a lasting failure does not burn a core.
const RETRY: Duration = Duration::from_millis(100);

/// Whose connections and datagrams are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// Everybody's.
    All,
    /// The host's own, from `::1`: who else reaches a port is for rules to say that see no proxy (publish mode `filtered`).
    Host,
}

impl Clients {
    fn include(self, client: SocketAddr) -> bool {
        self == Self::All || client.ip().is_loopback()
    }
}

/// Serves the published ports of one daemon.
#[derive(Debug)]
pub(crate) struct Proxy {
    runtime: Handle,
    /// By container.
    serving: Mutex<BTreeMap<String, Vec<JoinHandle<()>>>>,
}

impl Proxy {
    /// Tasks run on `runtime`.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, serving: Mutex::default() }
    }

    /// Passes on what reaches the IPv6 sockets of a reservation from now on, in place of what was done for the container
    /// before. `target` says where a port leads, `clients` for whom.
    pub(crate) fn serve(
        &self,
        container: &str,
        held: &Reservation,
        clients: Clients,
        target: impl Fn(Protocol, SocketAddr) -> Option<SocketAddr>,
    ) -> io::Result<()> {
        let mut tasks = Vec::new();
        let _context = self.runtime.enter();
        for (socket, protocol, at) in held.sockets().filter(|(_, _, at)| at.is_ipv6()) {
            let Some(target) = target(protocol, at) else { continue };
            rustix::io::ioctl_fionbio(socket, true)?;
            let socket = socket.try_clone_to_owned()?;
            match protocol {
                Protocol::Tcp => {
                    let listener = TcpListener::from_std(socket.into())?;
                    tasks.push(self.runtime.spawn(serve_tcp(listener, clients, target)));
                }
                Protocol::Udp => {
                    let socket = Arc::new(UdpSocket::from_std(socket.into())?);
                    tasks.push(self.runtime.spawn(serve_udp(socket, clients, target)));
                }
                Protocol::Sctp => {}
            }
        }
        let earlier = match tasks.is_empty() {
            true => self.lock().remove(container),
            false => self.lock().insert(container.to_owned(), tasks),
        };
        earlier.into_iter().flatten().for_each(|task| task.abort());
        Ok(())
    }

    /// Passes nothing on any more for a container; its connections end. The sockets are closed when this returns, so
    /// that the ports can be had by others. Blocks.
    pub(crate) fn stop(&self, container: &str) {
        let tasks = self.lock().remove(container).unwrap_or_default();
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            // It was cancelled.
            let _ = self.runtime.block_on(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<JoinHandle<()>>>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let serving = std::mem::take(&mut *self.lock());
        serving.into_values().flatten().for_each(|task| task.abort());
    }
}

async fn serve_tcp(listener: TcpListener, clients: Clients, target: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= MOST_CLIENTS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, from)) if clients.include(from) => drop(connections.spawn(pass_on(client, target))),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%target, %error, "connection to a published port not accepted");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn pass_on(mut client: TcpStream, target: SocketAddr) {
    let passed = async {
        let mut container = TcpStream::connect(target).await?;
        copy_bidirectional_with_sizes(&mut client, &mut container, BUFFER, BUFFER).await
    };
    if let Err(error) = passed.await {
        tracing::debug!(%target, %error, "connection to a published port ended");
    }
}

/// What is known of one UDP client: the socket that stands for him, and the task that brings answers back.
struct Peer {
    socket: Arc<UdpSocket>,
    answers: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, clients: Clients, target: SocketAddr) {
    let mut peers: HashMap<SocketAddr, Peer> = HashMap::new();
    loop {
        let (datagram, from) = match receive(&socket).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%target, %error, "datagram to a published port not received");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        if !clients.include(from) {
            continue;
        }
        if peers.len() >= MOST_CLIENTS {
            peers.retain(|_, peer| !peer.answers.is_finished());
        }
        let known = peers.get(&from).filter(|peer| !peer.answers.is_finished());
        let toward = match known {
            Some(peer) => Some(Arc::clone(&peer.socket)),
            None if peers.len() >= MOST_CLIENTS => None,
            None => meet(&mut peers, &socket, from, target).await,
        };
        if let Some(toward) = toward {
            // A container that does not listen answers with an error; there is nobody to tell.
            let _ = toward.send(&datagram).await;
        }
    }
}

/// The next datagram. Nothing is kept for a port at which nothing comes.
async fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    loop {
        socket.readable().await?;
        let mut buffer = vec![0; LONGEST];
        match socket.try_recv_from(&mut buffer) {
            Ok((length, from)) => {
                buffer.truncate(length);
                return Ok((buffer, from));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens a socket that stands for a client.
async fn meet(
    peers: &mut HashMap<SocketAddr, Peer>,
    back: &Arc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
) -> Option<Arc<UdpSocket>> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let opened = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(target).await.map(|()| Arc::new(socket))
    };
    let socket =
        opened.await.inspect_err(|error| tracing::debug!(%target, %error, "no socket for a client")).ok()?;
    let answers = tokio::spawn(bring_back(Arc::clone(&socket), Arc::clone(back), client));
    peers.insert(client, Peer { socket: Arc::clone(&socket), answers });
    Some(socket)
}

async fn bring_back(from: Arc<UdpSocket>, back: Arc<UdpSocket>, client: SocketAddr) {
    while let Ok(received) = timeout(SILENCE, receive(&from)).await {
        // An error is a datagram that nobody took: the next one may be.
        let Ok((datagram, _)) = received else { continue };
        let _ = back.send_to(&datagram, client).await;
    }
}
