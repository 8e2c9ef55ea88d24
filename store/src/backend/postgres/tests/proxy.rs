//! A relay between a server and PostgreSQL that holds back what goes through, or cuts it off.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

/// What the relay does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) requests: bool,
    pub(super) replies: bool,
}

/// Listens on a port of its own and relays to PostgreSQL.
pub(super) struct Proxy {
    address: SocketAddr,
    hold: watch::Sender<Hold>,
    cut: watch::Sender<u64>,
    /// One permit for each piece that was held back.
    held: Arc<Semaphore>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    pub(super) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let (hold, holds) = watch::channel(Hold::default());
        let (cut, cuts) = watch::channel(0);
        let held = Arc::new(Semaphore::new(0));
        let counted = Arc::clone(&held);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, holds.clone(), cuts.clone(), Arc::clone(&counted)));
            }
        });
        Self { address, hold, cut, held, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The same URL through the relay.
    pub(super) fn url(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").expect("a good URL");
        let (account, place) = rest.rsplit_once('@').expect("it names a user");
        let (_, database) = place.split_once('/').expect("it names a database");
        format!("{scheme}://{account}@{}/{database}?application_name=relayed", self.address)
    }

    /// From now on; what was held back before no longer counts.
    pub(super) fn hold(&self, hold: Hold) {
        self.held.forget_permits(usize::MAX);
        self.hold.send_replace(hold);
    }

    /// Waits until something was held back.
    pub(super) async fn until_held(&self) {
        self.held.acquire().await.expect("it is never closed").forget();
    }

    /// Cuts all connections that there are.
    pub(super) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn relay(
    mut client: TcpStream,
    target: SocketAddr,
    holds: watch::Receiver<Hold>,
    mut cuts: watch::Receiver<u64>,
    held: Arc<Semaphore>,
) {
    cuts.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both = async {
        tokio::join!(
            pump(from_client, to_server, holds.clone(), |hold| hold.requests, &held),
            pump(from_server, to_client, holds.clone(), |hold| hold.replies, &held),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = cuts.changed() => {}
    }
}

/// Passes on what is read, once it is not held back; also what was sent before the sender went away.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut holds: watch::Receiver<Hold>,
    is_held: impl Fn(&Hold) -> bool,
    held: &Semaphore,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if is_held(&holds.borrow()) {
            held.add_permits(1);
        }
        if holds.wait_for(|hold| !is_held(hold)).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    _ = to.shutdown().await;
}
