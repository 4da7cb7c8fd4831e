//! curl and nginx: large bodies up and down, and counts that agree with the kernel's to the byte.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluicegate::lab::party::Party;
use sluicegate::lab::services::BUCKET;
use sluicegate::lab::{Lab, Process, inside};

use crate::LATER;
use crate::program::{Output, Program, run};
use crate::stand::{ENI, GATEWAY, Stand, file, serve};

/// An nginx that serves a directory and takes what is put there, by HTTP/1.1 and HTTP/2.
struct Nginx {
    process: Process,
    root: PathBuf,
}

impl Nginx {
    fn start(lab: &Lab) -> Self {
        let (pki, directory) = (lab.pki(), lab.directory().display());
        let root = lab.directory().join("files");
        std::fs::create_dir(&root).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {directory}/nginx-{what};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; user root; pid {directory}/nginx.pid; error_log stderr;
            events {{ }}
            http {{
                access_log off; client_max_body_size 0; keepalive_timeout 600s;
                {temporary}
                server {{
                    listen {ENI}:443 ssl http2;
                    ssl_certificate {}; ssl_certificate_key {};
                    root {}; dav_methods PUT;
                }}
            }}\n",
            pki.server.certificate_file.display(),
            pki.server.key_file.display(),
            root.display()
        );
        let config = file(lab, "nginx.conf", &text);
        let args = ["-c", config.to_str().unwrap(), "-e", "stderr"];
        Self { process: serve(lab, &[443], "nginx", &args), root }
    }
}

/// A file of this many bytes without a pattern: the key stream of a cipher. Returns its SHA-256.
fn make(path: &Path, bytes: u64) -> String {
    let script = "head -c \"$1\" /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 -out \"$2\"";
    let (size, name) = (bytes.to_string(), path.to_str().unwrap());
    let output = Command::new("sh").args(["-c", script, "sh", &size, name]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::metadata(path).unwrap().len(), bytes);
    sha256(path)
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Says after each transfer, on standard error, how it went.
const REPORT: &str =
    "%{stderr}HTTP/%{http_version} %{response_code} %{size_upload} %{size_download}\n";

#[test]
fn large_bodies_arrive_whole_by_http_1_and_2() {
    inside::test("curl::large_bodies_arrive_whole_by_http_1_and_2", || {
        let (stand, nginx) = Stand::up(BUCKET, 13, Nginx::start);
        let lab = &stand.lab;
        let authority = lab.pki().authority_file.display().to_string();
        let original = nginx.root.join("original");
        let hash = make(&original, LARGE);
        let source = original.to_str().unwrap();
        for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let words = ["curl", "-sS", option, "--cacert", &authority, "-w", REPORT];
            let url = format!("https://{BUCKET}/original");
            let get = [&words[..], &[&url]].concat();
            let ended = Program::start(lab, GATEWAY, &get, Output::Hashed).end(LATER);
            assert_eq!(ended.said, format!("HTTP/{version} 200 0 {LARGE}\n"));
            assert_eq!((ended.code, &ended.sha256), (Some(0), &hash));

            let copy = format!("copy-{version}");
            let url = format!("https://{BUCKET}/{copy}");
            let put = [&words[..], &["-T", source, &url]].concat();
            let ended = run(lab, GATEWAY, &put, LATER);
            assert_eq!(ended.said, format!("HTTP/{version} 201 {LARGE} 0\n"));
            assert_eq!(ended.code, Some(0));
            assert_eq!(sha256(&nginx.root.join(copy)), hash);
        }
        let flows = stand.finish();
        assert_eq!(flows.len(), 4);
        for (place, flow) in flows.iter().enumerate() {
            let large = if place % 2 == 0 { flow.down() } else { flow.up() };
            assert!(large > LARGE, "{:#}", flow.end);
        }
    });
}

/// Payload bytes that the one connection here has received so far, by its own kernel's count
/// (`tcpi_bytes_received`, RFC 4898 tcpEStatsAppHCThruOctetsReceived): without headers, without
/// what was sent twice, and, before a FIN has come, without the one that a FIN adds.
fn received(party: &Party, filter: [&str; 2]) -> u64 {
    let args = ["-tinHO", "state", "established", filter[0], filter[1]];
    let output = party.command("ss", &args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let figure = text.split_whitespace().find_map(|word| word.strip_prefix("bytes_received:"));
    figure.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[test]
fn the_counts_of_a_gibibyte_are_the_kernels_own() {
    inside::test("curl::the_counts_of_a_gibibyte_are_the_kernels_own", || {
        let (stand, nginx) = Stand::up(BUCKET, 13, Nginx::start);
        let lab = &stand.lab;
        let authority = lab.pki().authority_file.display().to_string();
        let hash = make(&nginx.root.join("original"), GIBIBYTE);
        // Behind the download stands an upload from a pipe that nobody ever fills: curl waits in
        // open(2), with everything read and the connection open, while the kernel is asked.
        let pipe = lab.directory().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let url = format!("https://{BUCKET}/original");
        let words = ["curl", "-sS", "-N", "--http1.1", "--cacert", &authority, "-w", REPORT];
        let next = ["--next", "-T", pipe.to_str().unwrap(), &url];
        let words = [&words[..], &[&url], &next].concat();
        let mut client = Program::start(lab, GATEWAY, &words, Output::Hashed);
        client.wait_for(&format!("HTTP/1.1 200 0 {GIBIBYTE}\n"), LATER);

        let device_end = format!("{}:443", stand.dialled);
        let device_received = received(lab.device(GATEWAY), ["dst", &device_end]);
        let endpoint_received = received(lab.vpc(), ["src", &format!("{ENI}:443")]);
        // Killed, both say nothing more but their FIN: TLS would have a last word to add.
        nginx.process.kill_hard();
        let ended = client.kill();
        assert_eq!(ended.sha256, hash);

        let flows = stand.finish();
        assert_eq!(flows.len(), 1);
        let recorded = (flows[0].down(), flows[0].up());
        assert_eq!(recorded, (device_received, endpoint_received), "{:#}", flows[0].end);
        assert!(flows[0].down() > GIBIBYTE);
    });
}

const LARGE: u64 = 256 << 20;
const GIBIBYTE: u64 = 1 << 30;
