//! A window into the lab: a listener of this machine that leads to one inside.
//!
//! The two sides share no network, but a directory: a socket file is the way through. Only for what the lab
//! itself shows, on loopback.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener, UnixStream};

use super::Lab;
use super::error::LabError;

/// The socket file in the lab's directory.
pub const WINDOW: &str = "window.sock";

/// The outer side: whoever connects to the listener is led to the socket file.
pub(super) async fn look_in(listener: TcpListener, directory: PathBuf) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let file = directory.join(WINDOW);
    loop {
        let Ok((mut outside, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let file = file.clone();
        tokio::spawn(async move {
            let mut inside = UnixStream::connect(file).await?;
            copy_bidirectional(&mut outside, &mut inside).await
        });
    }
}

/// The inner side, in the box: whoever comes by the socket file is led to an address of the box.
pub(super) fn open(lab: &Lab, directory: &Path, to: SocketAddr) -> Result<(), LabError> {
    let file = directory.join(WINDOW);
    lab.edge().run(async move || {
        let listener = UnixListener::bind(file).map_err(LabError::io("open the window"))?;
        tokio::task::spawn_local(async move {
            loop {
                let Ok((mut outside, _)) = listener.accept().await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                tokio::task::spawn_local(async move {
                    let mut inside = connect(to).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        Ok(())
    })
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    tokio::net::TcpSocket::new_v4()?.connect(to).await
}

const PAUSE: Duration = Duration::from_millis(50);
