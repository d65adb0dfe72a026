//! Opens what the accept loop listens on: a TCP address, or a socket file that only its owner can use.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::exchange::Peer;
use super::peer;
use crate::error::{Code, Error, Result};

/// Connections that wait in the kernel while the connection cap is reached.
const BACKLOG: u32 = 1024;

/// Something that connections come from.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    /// The file is removed with the listener.
    Unix(UnixListener, PathBuf),
}

/// One accepted connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Listener {
    /// Listens on an address such as `127.0.0.1:8080`; port 0 takes a free one.
    pub fn tcp(address: &str) -> Result<Self> {
        let refuse = |error: io::Error| {
            Error::new(Code::ListenFailed, format!("`{address}` cannot be listened on: {}", reason(&error)))
                .hint("choose others with `--listen` and `--admin-listen`, or in skillhook.toml below [server]")
                .detail(error)
        };
        let resolved = resolve(address)?;
        let socket = if resolved.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
        let socket = socket.map_err(refuse)?;
        // Else a restart waits until the last connections of the old process have timed out.
        socket.set_reuseaddr(true).map_err(refuse)?;
        socket.bind(resolved).map_err(refuse)?;
        Ok(Self { kind: Kind::Tcp(socket.listen(BACKLOG).map_err(refuse)?) })
    }

    /// As [`Listener::tcp`], but on loopback addresses only: for what nobody needs a token for.
    pub fn loopback(address: &str) -> Result<Self> {
        let resolved = resolve(address)?;
        if !resolved.ip().to_canonical().is_loopback() {
            return Err(Error::new(Code::InsecureBinding, format!("the admin listener may not use `{address}`"))
                .hint("make a token first (`skillhook token create NAME`), or use a loopback address and a tunnel"));
        }
        Self::tcp(&resolved.to_string())
    }

    /// Listens on a socket file with mode 0600. A file that an earlier process left there is replaced; that no other
    /// process is alive is for the caller to know (it holds the data directory).
    pub fn unix(path: &Path) -> Result<Self> {
        let refuse = |error: io::Error| {
            Error::new(Code::ListenFailed, format!("the admin socket cannot be opened: {}", reason(&error)))
                .hint("choose a data directory with a shorter path, on a file system that has sockets")
                .detail(format!("{}: {error}", path.display()))
        };
        // Bound under another name first, so that nobody ever meets a socket whose mode is not yet set.
        let fresh = path.with_extension("new");
        remove_if_there(&fresh).map_err(refuse)?;
        let listener = UnixListener::bind(&fresh).map_err(refuse)?;
        let open = || -> io::Result<()> {
            std::fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            std::fs::rename(&fresh, path)
        };
        open().map_err(refuse)?;
        Ok(Self { kind: Kind::Unix(listener, path.to_owned()) })
    }

    /// Where it listens, for TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix(..) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are small and wait for nothing.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Peer::Address(address)))
            }
            Kind::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = peer::of(&stream);
                Ok((Box::new(stream), peer))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = &self.kind {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let refuse = || {
        Error::new(Code::SettingInvalid, format!("`{address}` is no address to listen on"))
            .hint("write it as `127.0.0.1:8080` or `[::1]:8080`")
    };
    match address.parse() {
        Ok(address) => Ok(address),
        // `localhost:8080`, and only that: another name may mean another machine tomorrow.
        Err(_) if address.starts_with("localhost:") => {
            address.to_socket_addrs().map_err(|_| refuse())?.find(SocketAddr::is_ipv4).ok_or_else(refuse)
        }
        Err(_) => Err(refuse()),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn reason(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process uses it",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        io::ErrorKind::PermissionDenied => "this user may not",
        io::ErrorKind::InvalidInput => "the name is too long",
        _ => "the system refuses",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn an_unprotected_listener_stays_on_loopback() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            assert_eq!(Listener::loopback(address).unwrap_err().code(), Code::InsecureBinding, "{address}");
        }
        for address in ["127.0.0.1:0", "localhost:0"] {
            assert!(Listener::loopback(address).unwrap().address().unwrap().ip().is_loopback(), "{address}");
        }
        assert_eq!(Listener::tcp("example.org:80").unwrap_err().code(), Code::SettingInvalid);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = Listener::tcp("127.0.0.1:0").unwrap();
        let error = Listener::tcp(&first.address().unwrap().to_string()).unwrap_err();
        assert_eq!(error.code(), Code::ListenFailed);
        assert!(error.message().ends_with("another process uses it"), "{error}");
    }

    #[tokio::test]
    async fn only_the_owner_can_use_the_socket_and_it_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        std::fs::write(&path, "left behind").unwrap();
        let listener = Listener::unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (client, server) = tokio::join!(UnixStream::connect(&path), listener.accept());
        assert!(client.is_ok() && server.is_ok());
        drop(listener);
        assert!(!path.exists());
    }
}
