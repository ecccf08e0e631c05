//! A server that only answers: it bounds what the generator costs, and stands in for a real one in tests.

use super::connection::parse_content_length;
use anyhow::Result;
use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// The reply of the plain stub.
pub(crate) const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";

/// A stub on its own thread; it ends when dropped.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Stub {
    /// Answers 204 to everything.
    ///
    /// # Errors
    /// When no port is free.
    pub(crate) fn start() -> Result<Self> {
        Self::answering(|_| NO_CONTENT.to_vec())
    }

    /// Answers each request (head and body) with what `answer` returns; an empty answer closes the connection.
    ///
    /// # Errors
    /// When no port is free.
    pub(crate) fn answering(answer: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) -> Result<Self> {
        let listener = std::net::TcpListener::bind(super::loopback(0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::spawn(move || {
            let set = LocalSet::new();
            let accept = accept(listener, Rc::new(RefCell::new(answer)));
            runtime.block_on(set.run_until(async {
                tokio::select! { _ = stopped => {}, _ = accept => {} }
            }));
        });
        Ok(Self { address, _stop: stop })
    }
}

async fn accept<A: FnMut(&[u8]) -> Vec<u8> + 'static>(
    listener: std::net::TcpListener,
    answer: Rc<RefCell<A>>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = Rc::clone(&answer);
        tokio::task::spawn_local(async move { answer_all(&stream, &answer).await });
    }
}

async fn answer_all<A: FnMut(&[u8]) -> Vec<u8>>(stream: &TcpStream, answer: &RefCell<A>) -> std::io::Result<()> {
    let mut received = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        while let Some(length) = request_length(&received).filter(|length| *length <= received.len()) {
            let reply = answer.borrow_mut()(&received[..length]);
            if reply.is_empty() {
                return Ok(());
            }
            received.drain(..length);
            let mut sent = 0;
            while sent < reply.len() {
                stream.writable().await?;
                match stream.try_write(&reply[sent..]) {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        stream.readable().await?;
        match stream.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn request_length(received: &[u8]) -> Option<usize> {
    let head = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&received[..head]).ok()?;
    Some(head + 4 + parse_content_length(text).unwrap_or(0))
}
