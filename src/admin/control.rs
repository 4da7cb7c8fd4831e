//! The control socket: one question, one answer, one connection.
//!
//! A Unix stream socket that only its owner and group may open (mode 0660). A question is one JSON
//! line, the answer one JSON document. Nothing that is asked changes anything but the leak canary's
//! result, which only root and the gate's own user may bring.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::explain::{AskedFlow, Explainer};
use super::report::Reporter;
use crate::canary::CanaryResult;
use crate::intercept::Passage;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// How everything is.
    Status,
    /// What would happen to a flow.
    Explain(AskedFlow),
    /// What the leak canary found.
    Canary(CanaryResult),
}

/// A result of the leak canary on its way to the control loop.
#[derive(Debug)]
pub struct Tidings {
    /// What it found.
    pub result: CanaryResult,
    /// Hears when it is taken in, and whether the gate is open then; or why it proves nothing.
    pub taken: oneshot::Sender<Result<Passage, &'static str>>,
}

/// Who answers.
#[derive(Clone, Debug)]
struct Desk {
    reporter: Arc<Reporter>,
    explainer: Arc<Explainer>,
    intake: Intake,
}

/// Who takes the canary's results.
#[derive(Clone, Debug)]
struct Intake {
    /// The user that the gate runs as.
    own: u32,
    canary: mpsc::Sender<Tidings>,
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
    pub fn serve(
        &self,
        reporter: Arc<Reporter>,
        explainer: Arc<Explainer>,
        canary: mpsc::Sender<Tidings>,
    ) {
        let intake = Intake { own: geteuid().as_raw(), canary };
        let desk = Desk { reporter, explainer, intake };
        let (listener, stop) = (Arc::clone(&self.listener), self.stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => {
                        let answering = answer(stream, desk.clone());
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

async fn answer(stream: UnixStream, desk: Desk) -> io::Result<()> {
    let asker = stream.peer_cred()?.uid();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(LONGEST_QUESTION).read_line(&mut line).await?;
    let refusal = |error: String| serde_json::to_vec(&serde_json::json!({ "error": error }));
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(Question::Status) => serde_json::to_vec(&desk.reporter.report().await)?,
        Ok(Question::Explain(flow)) => match desk.explainer.explain(&flow).await {
            Ok(explanation) => serde_json::to_vec(&explanation)?,
            Err(error) => refusal(error)?,
        },
        Ok(Question::Canary(result)) => match desk.intake.take(asker, result).await {
            Ok(gate) => serde_json::to_vec(&serde_json::json!({ "gate": gate }))?,
            Err(error) => refusal(error.to_owned())?,
        },
        Err(error) => refusal(format!("not a question: {error}"))?,
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

impl Intake {
    /// Hands a result on to the control loop; the error is for the one who brought it.
    ///
    /// A result can close the gate, or end an alarm: whoever may only look at the gate may not bring
    /// one.
    async fn take(&self, asker: u32, result: CanaryResult) -> Result<Passage, &'static str> {
        const ENDING: &str = "the gate is ending";
        if asker != 0 && asker != self.own {
            return Err("only root and the gate's own user may report what the canary found");
        }
        result.check()?;
        let (taken, passage) = oneshot::channel();
        self.canary.send(Tidings { result, taken }).await.map_err(|_| ENDING)?;
        passage.await.map_err(|_| ENDING)?
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
/// Every leak that there can be is about half of it.
const LONGEST_QUESTION: u64 = 16_384;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn whoever_may_only_look_reports_nothing() {
        let (canary, mut told) = mpsc::channel(1);
        let intake = Intake { own: 990, canary };
        let result = CanaryResult { tried: 8, answered: 8, leaks: Vec::new() };
        let refused = intake.take(1000, result.clone()).now_or_never();
        assert!(refused.is_some_and(|taken| taken.is_err_and(|why| why.contains("only root"))));
        assert!(told.try_recv().is_err(), "nobody hears of it");
        for entitled in [0, 990] {
            let taking = intake.take(entitled, result.clone());
            let hearing = async {
                let tidings: Tidings = told.recv().await.expect("a result");
                tidings.taken.send(Ok(Passage::Open)).expect("somebody waits");
            };
            assert_eq!(tokio::join!(taking, hearing).0, Ok(Passage::Open));
        }
    }
}
