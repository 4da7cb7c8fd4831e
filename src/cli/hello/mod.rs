//! `sluicegate hello`: what a captured ClientHello says.

mod outlook;
mod text;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{EXIT_DENIED, fail, note, print};
use crate::hello::input::{self, Found};
use crate::hello::report;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    tcpdump -i lan0 -s 0 -c 200 -w press-3.pcap host 10.10.0.7\n  \
    sluicegate hello press-3.pcap\n  \
    echo '16 03 01 ...' | sluicegate hello - --json | jq .reason")]
pub(super) struct Options {
    /// Bytes of a ClientHello (binary, hex or base64) or a capture (pcap, pcapng); - for standard
    /// input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Print one JSON document per hello, one to a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let bytes = match read(options) {
        Ok(bytes) => bytes,
        Err(error) => return fail(&error, 1),
    };
    let examined = match input::examine(&bytes) {
        Ok(examined) => examined,
        Err(error) => return fail(&error, 1),
    };
    for remark in &examined.remarks {
        note(&format!("note: {remark}"));
    }
    let shown: Vec<String> = examined
        .found
        .iter()
        .map(
            |found| {
                if options.json { format!("{}\n", document(found)) } else { text::hello(found) }
            },
        )
        .collect();
    print(&shown.join(if options.json { "" } else { "\n" }));
    if examined.found.iter().any(|found| found.answer.is_err()) {
        ExitCode::from(EXIT_DENIED)
    } else {
        ExitCode::SUCCESS
    }
}

fn read(options: &Options) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limited = |from: &mut dyn Read, bytes: &mut Vec<u8>| {
        from.take(MOST_BYTES + 1).read_to_end(bytes).map(drop)
    };
    let (name, outcome) = if options.file.as_os_str() == "-" {
        let mut input = std::io::stdin().lock();
        if input.is_terminal() {
            note("reading standard input; end it with Ctrl-D");
        }
        ("standard input".to_owned(), limited(&mut input, &mut bytes))
    } else {
        let outcome =
            std::fs::File::open(&options.file).and_then(|mut file| limited(&mut file, &mut bytes));
        (options.file.display().to_string(), outcome)
    };
    outcome.map_err(|error| format!("cannot read {name}: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MOST_BYTES) {
        let most = MOST_BYTES >> 20;
        return Err(format!("{name} has more than {most} MiB; cut it with `editcap` first"));
    }
    Ok(bytes)
}

fn document(found: &Found) -> Value {
    let mut document = report(found.answer.as_ref());
    let outlook = outlook::of(found);
    let between = found.between.map(
        |(client, server)| json!({ "client": client.to_string(), "server": server.to_string() }),
    );
    if let Some(fields) = document.as_object_mut() {
        fields.insert(
            "aws".to_owned(),
            json!({ "accepts": outlook.accepts, "notes": outlook.notes }),
        );
        fields.insert("capture".to_owned(), json!(between));
        if let Some(Value::Array(notes)) = fields.get_mut("notes") {
            notes.extend(found.remarks.iter().cloned().map(Value::String));
        }
    }
    document
}

/// Captures are read whole into memory.
const MOST_BYTES: u64 = 256 << 20;
