//! Event streams, frame by frame.

use crate::client::{Client, End, Reply, head};
use crate::server::{Server, within};

/// An open event stream.
pub(crate) struct Events {
    client: Client,
    pub(crate) head: Reply,
    text: String,
    end: Option<End>,
}

impl Events {
    /// Subscribes; the stream must be granted.
    pub(crate) async fn subscribe(server: &Server, token: &str, query: &str) -> Self {
        Self::subscribe_with(server, token, query, "").await
    }

    /// Subscribes with further headers.
    pub(crate) async fn subscribe_with(server: &Server, token: &str, query: &str, headers: &str) -> Self {
        let mut client = server.connect().await;
        client.send(head("GET", &format!("/subscribe?{query}"), Some(token), headers)).await;
        Self::of(client).await
    }

    /// The event stream that a connection is answered with.
    pub(crate) async fn of(mut client: Client) -> Self {
        let head = client.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        Self { client, head, text: String::new(), end: None }
    }

    /// Sends more of the request's body.
    pub(crate) async fn send(&mut self, bytes: &str) {
        self.client.send(bytes).await;
    }

    /// The next frame without the empty line at its end, or `None` behind the last of a whole stream.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                assert!(!frame.is_empty() && !rest.starts_with('\n'), "an empty line too many");
                self.text = rest;
                return Some(frame);
            }
            match &self.end {
                None => self.receive().await,
                Some(end) => {
                    assert_eq!((end, self.text.as_str()), (&End::Whole, ""));
                    return None;
                }
            }
        }
    }

    /// All frames up to the first that begins so, itself included.
    pub(crate) async fn up_to(&mut self, beginning: &str) -> Vec<String> {
        let mut frames = Vec::new();
        loop {
            let frame = within("a frame", self.next()).await;
            let frame = frame.unwrap_or_else(|| panic!("the stream ended before {beginning:?}: {frames:?}"));
            frames.push(frame);
            if frames.last().is_some_and(|frame| frame.starts_with(beginning)) {
                return frames;
            }
        }
    }

    /// All frames until the stream ends cleanly.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        let mut frames = Vec::new();
        while let Some(frame) = within("a frame or the end", self.next()).await {
            frames.push(frame);
        }
        frames
    }

    /// How the connection ends, whatever comes before.
    pub(crate) async fn ending(mut self) -> End {
        within("the end of the stream", async {
            while self.end.is_none() {
                self.receive().await;
            }
        })
        .await;
        self.end.expect("the loop ended")
    }

    async fn receive(&mut self) {
        match self.client.chunk().await {
            Some(chunk) if chunk.is_empty() => self.end = Some(End::Whole),
            Some(chunk) => self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8, in whole frames")),
            None => self.end = Some(End::CutOff),
        }
    }
}

/// The poke of a message.
pub(crate) fn poke(stream: &str, position: i64, global: i64) -> String {
    format!(
        "id: {global}\nevent: poke\ndata: {{\"stream\":\"{stream}\",\"position\":{position},\"globalPosition\":{global}}}"
    )
}
