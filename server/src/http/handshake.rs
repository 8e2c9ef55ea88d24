//! The TLS handshake of a new connection. The time for a head bounds it, because nothing has come yet for HTTP.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::drive::unless_told;
use super::request_id::RequestId;
use super::tls::Tls;
use super::unwanted::Unwanted;
use super::vitals::{Phase, Vitals};
use super::wire::Wire;

/// Encrypted bytes that wait to be sent before a reply is asked for more.
pub(super) const BUFFER_BYTES: usize = 32 * 1024;
/// Bytes of a client that was refused which are read and thrown away.
const MOST_UNWANTED: usize = 64 * 1024;
/// The reply to a request that came in clear text, less the line with its id.
const CLEAR_TEXT: [&str; 2] = [
    "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 43\r\nconnection: close\r\n",
    "\r\nThis port speaks TLS: use an https:// URL.\n",
];

/// Makes a connection an encrypted one. `first` are the first bytes that it has for us. `None` if it is to end.
pub(super) async fn shake(wire: Wire, first: &[u8], tls: &Tls, vitals: &Arc<Vitals>) -> Option<TlsStream<Wire>> {
    // A method of HTTP begins with a capital letter, and no record of TLS does.
    if first.first().is_some_and(u8::is_ascii_uppercase) {
        let id = RequestId::new();
        tracing::debug!(request_id = &*id.to_string(), "a request in clear text is refused");
        part(wire, CLEAR_TEXT.join(&id.line()).as_bytes(), vitals).await;
        return None;
    }
    let accepting = TlsAcceptor::from(tls.config())
        .accept_with(wire, |session| session.set_buffer_limit(Some(BUFFER_BYTES)))
        .into_fallible();
    match unless_told(vitals, accepting).await? {
        Ok(stream) => {
            // The time for the first request's head begins.
            vitals.set_phase(Phase::New);
            Some(stream)
        }
        Err((error, wire)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            // rustls has told the client why.
            part(wire, &[], vitals).await;
            None
        }
    }
}

/// Says a last word, and reads on until the client has closed its side: otherwise a reset could overtake the word.
async fn part(mut wire: Wire, word: &[u8], vitals: &Vitals) {
    let parting = async {
        wire.write_all(word).await?;
        wire.shutdown().await?;
        let mut unwanted = Unwanted::default();
        poll_fn(|cx| unwanted.poll_rest(&mut wire, MOST_UNWANTED, cx)).await;
        Ok::<_, io::Error>(())
    };
    // An error means that the client is gone.
    let _ = unless_told(vitals, parting).await;
}
