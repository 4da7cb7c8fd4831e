//! Code inside a network namespace, on a thread of this process.
//!
//! A party is a thread that has moved into a namespace and drives a runtime there: sockets that its
//! work opens are in that namespace. Work is handed over and its result comes back; a panic in it is
//! a panic of whoever asks for the result. When the party is dropped its tasks and its thread end.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use super::error::LabError;
use super::netns;

/// A place to stand in one namespace.
#[derive(Debug)]
pub struct Party {
    namespace: String,
    jobs: Option<UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Party {
    /// Starts a thread in the namespace.
    ///
    /// # Errors
    /// When there is no such namespace, or the thread or its runtime cannot be had.
    pub fn enter(namespace: &str) -> Result<Self, LabError> {
        let (jobs, queue) = unbounded_channel();
        let (started, start) = sync_channel(1);
        let name = namespace.to_owned();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let ready = netns::join(&name).and_then(|()| {
                    tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .map_err(LabError::io("start a runtime"))
                });
                match ready {
                    Ok(runtime) => {
                        // The receiver waits below, so this cannot fail.
                        let _ = started.send(Ok(()));
                        LocalSet::new().block_on(&runtime, serve(queue));
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })
            .map_err(LabError::io(format!("start a thread for {namespace}")))?;
        start.recv().unwrap_or_else(|_| {
            Err(LabError::io(format!("start a thread for {namespace}"))(
                std::io::ErrorKind::BrokenPipe.into(),
            ))
        })?;
        Ok(Self { namespace: namespace.to_owned(), jobs: Some(jobs), thread: Some(thread) })
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs `work` in the namespace and waits, on the calling thread, for its result.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T, F, Fut>(&self, work: F) -> T
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        self.spawn(work).join()
    }

    /// Starts `work` in the namespace. It goes on when the [`Work`] is dropped.
    pub fn spawn<T, F, Fut>(&self, work: F) -> Work<T>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (sender, result) = sync_channel(1);
        let job: Job = Box::new(move || {
            Box::pin(async move {
                let ended = tokio::task::spawn_local(work()).await;
                // Nobody may be waiting for it.
                let _ = sender.send(ended.map_err(tokio::task::JoinError::into_panic));
            })
        });
        if let Some(jobs) = &self.jobs {
            // A thread that is gone shows in `join`.
            let _ = jobs.send(job);
        }
        Work { result }
    }

    /// A program to be run in the namespace.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = netns::command(&self.namespace, program);
        command.args(args);
        command
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread itself has shown in every `join` already.
            let _ = thread.join();
        }
    }
}

/// Work under way in a namespace.
#[derive(Debug)]
pub struct Work<T> {
    result: Receiver<Result<T, Box<dyn Any + Send>>>,
}

impl<T> Work<T> {
    /// Waits for the result.
    ///
    /// # Panics
    /// When the work did, or when its party ended before it.
    pub fn join(self) -> T {
        match self.result.recv() {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => panic!("the namespace's thread ended before the work was done"),
        }
    }
}

type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

async fn serve(mut queue: UnboundedReceiver<Job>) {
    while let Some(job) = queue.recv().await {
        tokio::task::spawn_local(job());
    }
}
