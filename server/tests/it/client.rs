//! A client that shows every byte: requests as text, replies with their headers as they came.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::within;

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// What came and was not looked at yet.
    received: Vec<u8>,
}

/// The head of a reply, or all of it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// How a chunked body came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the last, empty chunk.
    Whole,
    /// With the connection.
    CutOff,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        Self { stream, received: Vec::new() }
    }

    /// A connection that holds little of what the client does not read.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a size");
        let stream = socket.connect(address).await.expect("the server listens");
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the connection stands");
    }

    /// Calls a method.
    pub(crate) async fn call(&mut self, token: Option<&str>, body: &str) -> Reply {
        self.send(call(token, body)).await;
        self.reply().await
    }

    /// Sends a request without a body.
    pub(crate) async fn request(&mut self, method: &str, path: &str, token: Option<&str>) -> Reply {
        self.send(head(method, path, token, "")).await;
        if method == "HEAD" { self.head().await } else { self.reply().await }
    }

    /// The next reply, whole.
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        if let Some(length) = reply.header("content-length") {
            let length = length.parse().expect("a length");
            while self.received.len() < length {
                assert!(self.receive().await, "the body is cut off");
            }
            reply.body = self.received.drain(..length).collect();
        } else if reply.status != 204 {
            let (body, end) = self.chunked().await;
            assert_eq!(end, End::Whole);
            reply.body = body;
        }
        reply
    }

    /// The head of the next reply.
    pub(crate) async fn head(&mut self) -> Reply {
        let end = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break end;
            }
            assert!(self.receive().await, "the connection ended before a reply: {:?}", self.received);
        };
        let head: Vec<u8> = self.received.drain(..end + 4).collect();
        let text = String::from_utf8(head).expect("UTF-8");
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_owned(), value.to_owned())
        });
        Reply { status: status.parse().expect("a status"), headers: headers.collect(), body: Vec::new() }
    }

    /// The rest of a chunked body.
    pub(crate) async fn chunked(&mut self) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        loop {
            match self.chunk().await {
                Some(chunk) if chunk.is_empty() => return (body, End::Whole),
                Some(chunk) => body.extend(chunk),
                None => return (body, End::CutOff),
            }
        }
    }

    /// The next chunk of a chunked body; empty the last one, `None` where the connection ends.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size_end = loop {
            if let Some(end) = find(&self.received, b"\r\n") {
                break end;
            }
            if !self.receive().await {
                return None;
            }
        };
        let size = std::str::from_utf8(&self.received[..size_end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        let end = size_end + 2 + size + 2;
        while self.received.len() < end {
            if !self.receive().await {
                return None;
            }
        }
        let chunk = self.received[size_end + 2..end - 2].to_vec();
        self.received.drain(..end);
        Some(chunk)
    }

    /// Receives some bytes; false at the end of the connection.
    pub(crate) async fn receive(&mut self) -> bool {
        let read = within("bytes, or the end", self.stream.read_buf(&mut self.received)).await;
        matches!(read, Ok(bytes) if bytes > 0)
    }

    /// Waits for the end of the connection; what came before it.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        while self.receive().await {}
        self.received
    }
}

/// The text of a call.
pub(crate) fn call(token: Option<&str>, body: &str) -> String {
    let length = format!("Content-Length: {}\r\n", body.len());
    head("POST", "/rpc", token, &length) + body
}

/// The head of a request; each of the further headers ends its line.
pub(crate) fn head(method: &str, path: &str, token: Option<&str>, headers: &str) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}{headers}\r\n")
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
