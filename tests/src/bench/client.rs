//! A client that costs little: raw HTTP/1.1 over one connection that is kept.

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What was answered.
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!("status {}, no JSON: {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, token: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Connection {
    pub async fn open(address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        let (head_length, head) = self.read_head().await?;
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status line")?;
        let length: usize =
            header(&head, "content-length").and_then(|length| length.parse().ok()).context("no length")?;
        while self.buffer.len() < head_length + length {
            self.read_more().await?;
        }
        let body = self.buffer[head_length..head_length + length].to_vec();
        self.buffer.drain(..head_length + length);
        Ok(Answer { status, body })
    }

    /// Sends a request whose answer is a stream, and reads its head.
    pub async fn open_stream(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let (length, head) = self.read_head().await?;
        anyhow::ensure!(
            head.contains(" 200 "),
            "the stream was answered with {}",
            head.lines().next().unwrap_or_default()
        );
        self.buffer.drain(..length);
        Ok(())
    }

    /// Waits for the stream's next bytes, whatever they are.
    pub async fn next_bytes(&mut self) -> anyhow::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.read_more().await?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn read_head(&mut self) -> anyhow::Result<(usize, String)> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok((end + 4, String::from_utf8_lossy(&self.buffer[..end]).into_owned()));
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        anyhow::ensure!(read > 0, "the connection was closed");
        Ok(())
    }
}
