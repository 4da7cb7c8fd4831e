//! What can go wrong in the lab, told to a person.

use std::io;

/// Why the lab, or a step in it, did not come about.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The lab cannot show what it is there to show.
    #[error("{0}")]
    Proof(String),
    /// The kernel or its policy does not let this user make namespaces.
    #[error(
        "namespaces are refused here ({detail}). Allow them with whichever of these settings the \
         machine has: `sysctl -w kernel.unprivileged_userns_clone=1`, \
         `sysctl -w user.max_user_namespaces=10000`, \
         `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`; in a container, its seccomp \
         profile must allow unshare and mount"
    )]
    NamespacesRefused {
        /// What `unshare` said.
        detail: String,
    },
    /// The lab was asked for outside of its own namespaces.
    #[error(
        "the lab runs only in namespaces of its own, and this process is not in such: {detail}"
    )]
    NotInside {
        /// What showed it.
        detail: String,
    },
    /// An external program ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line, with what was written to its standard input.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// An external program could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A file, socket or thread of the lab.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, and with what.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A TLS configuration could not be made.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A program said something that cannot be read.
    #[error("`{command}` answered what cannot be read: {detail}")]
    Answer {
        /// The command line.
        command: String,
        /// What was wrong with it.
        detail: String,
    },
    /// The daemon ended before it was ready.
    #[error("the daemon ended ({status}) before it was ready; it said:\n{stderr}")]
    DaemonEnded {
        /// How it ended.
        status: String,
        /// Everything it said on standard error.
        stderr: String,
    },
    /// The daemon did not say that it is ready.
    #[error("the daemon was not ready within {seconds} s; so far it said:\n{stderr}")]
    DaemonNotReady {
        /// How long it was given, in seconds.
        seconds: u64,
        /// Everything it said on standard error.
        stderr: String,
    },
    /// Ctrl-C or a termination signal.
    #[error("interrupted by a signal")]
    Interrupted,
}

impl LabError {
    /// Names what was tried when the system said no.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
