//! The control socket: one question, one answer, one connection.
//!
//! A Unix stream socket that only its owner and group may open (mode 0660). A question is one JSON
//! line, the answer one JSON document; nothing that is asked changes anything.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::explain::{AskedFlow, Explainer};
use super::report::Reporter;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// How everything is.
    Status,
    /// What would happen to a flow.
    Explain(AskedFlow),
}

/// A bound control socket.
#[derive(Debug)]
pub struct Control {
    listener: Arc<UnixListener>,
    path: PathBuf,
    stop: CancellationToken,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no gate runs here: {0}: {1}; start it with `systemctl start sluicegate`")]
    NotRunning(PathBuf, io::Error),
    /// The asker may not.
    #[error("you may not ask the gate: {0}: permission denied; run as root or join its group")]
    NotPermitted(PathBuf),
    /// The answer did not come or made no sense.
    #[error("the gate did not answer: {0}")]
    NoAnswer(String),
}

impl Control {
    /// Binds the socket, in place of one that a dead daemon left.
    ///
    /// # Errors
    /// The directory cannot be made, or another daemon listens there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let text = "another sluicegate listens there already; stop it first";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        let stop = CancellationToken::new();
        Ok(Self { listener: Arc::new(listener), path: path.to_owned(), stop })
    }

    /// Answers from now on, in a task of the calling runtime.
    pub fn serve(&self, reporter: Arc<Reporter>, explainer: Arc<Explainer>) {
        let (listener, stop) = (Arc::clone(&self.listener), self.stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => {
                        let (reporter, explainer) = (Arc::clone(&reporter), Arc::clone(&explainer));
                        let answering = answer(stream, reporter, explainer);
                        tokio::spawn(tokio::time::timeout(PATIENCE, answering));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
    }

    /// Stops answering and removes the socket.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Control {
    // Also when the start fails behind the binding: a file without a listener would look as if a
    // gate had died there.
    fn drop(&mut self) {
        self.stop.cancel();
        // A socket file that stays is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Asks a running gate.
///
/// # Errors
/// [`AskError`].
pub async fn ask(path: &Path, question: &Question) -> Result<serde_json::Value, AskError> {
    let no_answer = |error: &dyn std::fmt::Display| AskError::NoAnswer(error.to_string());
    let mut stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::NotPermitted(path.to_owned()),
        _ => AskError::NotRunning(path.to_owned(), error),
    })?;
    let mut line = serde_json::to_vec(question).map_err(|error| no_answer(&error))?;
    line.push(b'\n');
    let exchange = async {
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| AskError::NoAnswer(format!("no answer within {PATIENCE:?}")))?
        .map_err(|error| no_answer(&error))?;
    serde_json::from_slice(&answer).map_err(|error| no_answer(&error))
}

async fn answer(
    stream: UnixStream,
    reporter: Arc<Reporter>,
    explainer: Arc<Explainer>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(LONGEST_QUESTION).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(Question::Status) => serde_json::to_vec(&reporter.report().await)?,
        Ok(Question::Explain(flow)) => match explainer.explain(&flow).await {
            Ok(explanation) => serde_json::to_vec(&explanation)?,
            Err(error) => serde_json::to_vec(&serde_json::json!({ "error": error }))?,
        },
        Err(error) => {
            let error = format!("not a question: {error}");
            serde_json::to_vec(&serde_json::json!({ "error": error }))?
        }
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_QUESTION: u64 = 4_096;
