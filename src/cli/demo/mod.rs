//! `sluicegate demo`: a plant, the gate and a VPC on this machine.
//!
//! Everything happens in network namespaces of its own: three devices, the real daemon with its real
//! nftables rules, a VPC of two zones, and a public internet that answers to the same names, so that
//! a leak would succeed and be seen. Nothing of the machine's own network is touched.

mod cases;
mod play;
mod table;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{fail, note, print};
use crate::audit;
use crate::lab::{Lab, LabError, SITE, inside};
use cases::CASES;
use play::Theatre;
use table::{Shown, Table};

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate demo --json | jq .ok\n\n\
    Needs nft and ip, and either root or permission to make user namespaces.")]
pub(super) struct Options {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Keep the run's audit log in this directory
    #[arg(long, value_name = "DIR")]
    audit: Option<PathBuf>,
    /// Afterwards keep the plant busy and show the gate's status page at this address of this machine
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:9443")]
    page: Option<SocketAddr>,
}

pub(super) fn run(options: &Options) -> ExitCode {
    if !inside::is_inside() {
        return match window(options).and_then(inside::reexec_self) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error, 1),
        };
    }
    match play(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error, 1),
    }
}

/// Where the status page is shown, if it is.
fn window(options: &Options) -> Result<Option<TcpListener>, LabError> {
    let Some(address) = options.page else { return Ok(None) };
    let show = |error| LabError::io(format!("show the status page at {address}"))(error);
    if !address.ip().is_loopback() {
        // The page inside has no lock: nobody else may look through the window.
        return Err(show(std::io::Error::other("only an address of loopback can be used")));
    }
    let listener = TcpListener::bind(address).map_err(show)?;
    let at = listener.local_addr().map_err(show)?;
    note(&format!("the status page will be at http://{at}/ when all flows are played"));
    Ok(Some(listener))
}

fn play(options: &Options) -> Result<bool, LabError> {
    let table = Table::new(if options.json { Shown::Nothing } else { Shown::Rows });
    table.progress("building the plant, the VPC and the public internet");
    let lab = Lab::up()?;
    table.progress("checking that a leak would succeed and be seen");
    play::prove_that_leaks_show(&lab)?;
    table.progress("starting the gate");
    let binary = std::env::current_exe().map_err(LabError::io("find this program"))?;
    let daemon = lab.start_daemon(&binary, &lab.daemon_config())?;
    let mut theatre = Theatre::new(&lab, &daemon);
    theatre.until_settled()?;
    let mut rows = Vec::new();
    let mut ok = true;
    table.head();
    for (place, case) in CASES.iter().enumerate() {
        table.progress(&format!("{} of {}: {}", place + 1, CASES.len(), case.name));
        let outcome = theatre.play(case)?;
        ok &= outcome.ok();
        table.row(case, &outcome);
        rows.push(table::json(case, &outcome));
    }
    let leaked = lab.leaked_packets()?;
    ok &= leaked == 0 && lab.public_seen().is_empty();
    for leak in lab.leaks()? {
        note(&format!("leaked: {} from {} to {}", leak.protocol, leak.from, leak.to));
    }
    if let Some(directory) = &options.audit {
        keep_records(&lab, &daemon, directory)?;
    }
    if options.json {
        print(&format!("{}\n", json!({ "cases": rows, "leaked_packets": leaked, "ok": ok })));
    } else {
        table.foot(rows.len(), leaked, ok);
    }
    if options.page.is_some() {
        lab.open_window(([127, 0, 0, 1], 9443).into())?;
        note("the status page is open; Ctrl-C ends the demo");
        theatre.keep_busy()?;
    }
    Ok(ok)
}

/// Ends the gate, so that its log is complete, and copies the log.
fn keep_records(lab: &Lab, daemon: &crate::lab::Daemon, to: &PathBuf) -> Result<(), LabError> {
    daemon.signal(rustix::process::Signal::TERM)?;
    daemon.wait(std::time::Duration::from_secs(20))?;
    let action = || format!("keep the audit log in {}", to.display());
    std::fs::create_dir_all(to).map_err(LabError::io(action()))?;
    let from = lab.directory().join("audit");
    for entry in std::fs::read_dir(from).map_err(LabError::io(action()))? {
        let entry = entry.map_err(LabError::io(action()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".ndjson") || name.ends_with(".ndjson.gz") {
            std::fs::copy(entry.path(), to.join(entry.file_name()))
                .map_err(LabError::io(action()))?;
        }
    }
    let key = audit::pinned_key(to).map_err(LabError::io(action()))?;
    std::fs::write(to.join("audit.pub"), key.file(SITE)).map_err(LabError::io(action()))
}
