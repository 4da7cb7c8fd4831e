//! Hellos of real clients, caught on loopback: OpenSSL, curl, GnuTLS and Python in the versions of
//! this machine, the TLS stacks of most Linux devices. The refused ones must show the alert in
//! their own log.
//!
//! Needs the programs `openssl` (3.x), `curl`, `gnutls-cli` and `python3`. Hellos of clients that
//! are seldom installed are recorded in the directory hellos; see the test hello.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

use std::process::{Output, Stdio};
use std::time::Duration;

use sluicegate::hello::alert::alert_for;
use sluicegate::hello::{Hello, HelloReader, Progress, Refusal};
use sluicegate::reason::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// No client lives longer, whatever happens.
const LIFETIME: Duration = Duration::from_secs(30);

/// A client that waits for an answer to its hello.
struct Caught {
    /// Killed when dropped.
    client: Child,
    stream: TcpStream,
    hello: Vec<u8>,
    answer: Progress,
}

impl Caught {
    /// Starts the program with `PORT` in its arguments replaced, and reads its hello.
    async fn from(program: &str, arguments: &[&str]) -> Self {
        timeout(LIFETIME, Self::catch(program, arguments)).await.expect("a hello in time")
    }

    async fn catch(program: &str, arguments: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut client = Command::new(program)
            .args(arguments.iter().map(|argument| argument.replace("PORT", &port)))
            .env("OPENSSL_CONF", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs the program {program}: {error}"));
        let mut stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            status = client.wait() => panic!("{program} {arguments:?} ended first: {status:?}"),
        };
        let mut reader = HelloReader::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{program} {arguments:?} closed the connection");
            let answer = reader.push(&buffer[..count]);
            if answer != Progress::Incomplete {
                let hello = reader.into_raw();
                return Self { client, stream, hello, answer };
            }
        }
    }

    fn hello(&self) -> &Hello {
        self.same_however_cut();
        match &self.answer {
            Progress::Hello(hello) => hello,
            other => panic!("expected a hello, got {other:?}"),
        }
    }

    fn refusal(&self) -> &Refusal {
        self.same_however_cut();
        match &self.answer {
            Progress::Refused(refusal) => refusal,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    fn same_however_cut(&self) {
        let mut reader = HelloReader::new();
        let (last, rest) = self.hello.split_last().unwrap();
        for byte in rest {
            assert_eq!(reader.push(&[*byte]), Progress::Incomplete);
        }
        assert_eq!(reader.push(&[*last]), self.answer);
        for at in 0..self.hello.len() {
            let (first, second) = self.hello.split_at(at);
            let mut reader = HelloReader::new();
            assert_eq!(reader.push(first), Progress::Incomplete, "cut at {at}");
            assert_eq!(reader.push(second), self.answer, "cut at {at}");
        }
    }

    /// Refuses the client, and returns what it logged.
    async fn refuse(mut self, reason: Reason, version: u16) -> String {
        let alert = alert_for(reason, Some(version)).expect("an alert");
        self.stream.write_all(&alert.record).await.unwrap();
        self.stream.shutdown().await.unwrap();
        let ended = timeout(LIFETIME, self.client.wait_with_output()).await;
        let Output { stdout, stderr, .. } = ended.expect("an end in time").unwrap();
        [String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)].concat()
    }
}

const NAME: &str = "device.example.com";
/// Makes a hello longer than 512 bytes.
const LONG_ALPN: &str = "\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,\
    bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb,\
    cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

async fn openssl(arguments: &[&str]) -> Caught {
    Caught::from("openssl", &[&["s_client", "-connect", "127.0.0.1:PORT"], arguments].concat())
        .await
}

async fn curl(arguments: &[&str]) -> Caught {
    let fixed = ["-q", "-sS", "--noproxy", "*", "--max-time", "20"];
    Caught::from("curl", &[&fixed[..], arguments].concat()).await
}

async fn gnutls(arguments: &[&str]) -> Caught {
    Caught::from("gnutls-cli", &[&["--port", "PORT", "127.0.0.1"], arguments].concat()).await
}

/// Connects with the name, after a line of Python that may change the `context`.
async fn python(name: &str, line: &str) -> Caught {
    let program = format!(
        "import socket, ssl\n\
         context = ssl.create_default_context()\n\
         context.check_hostname = False\n\
         {line}\n\
         stream = socket.create_connection((\"127.0.0.1\", PORT))\n\
         context.wrap_socket(stream, server_hostname={name})\n"
    );
    Caught::from("python3", &["-c", &program]).await
}

#[tokio::test]
async fn openssl_in_each_version() {
    let cases: [(&str, u16, &str); 4] = [
        ("-tls1", 0x0301, "t10d"),
        ("-tls1_1", 0x0302, "t11d"),
        ("-tls1_2", 0x0303, "t12d"),
        ("-tls1_3", 0x0304, "t13d"),
    ];
    for (flag, version, ja4) in cases {
        let caught = openssl(&[flag, "-cipher", "ALL:@SECLEVEL=0", "-servername", NAME]).await;
        let hello = caught.hello();
        assert_eq!((hello.name.as_str(), hello.facts.highest_version()), (NAME, version));
        assert!(hello.facts.ja4().as_str().starts_with(ja4), "{}", hello.facts.ja4());
        assert_eq!(hello.facts.bytes, caught.hello.len());
        assert_eq!(hello.facts.notes, Vec::<String>::new());
    }
}

#[tokio::test]
async fn openssl_with_the_options_that_change_its_hello() {
    let cases: [(&[&str], &str, usize); 9] = [
        (&[], "t13d", 1),
        (&["-no_ticket", "-status"], "t13d", 1),
        (&["-groups", "P-521:P-384:P-256"], "t13d", 1),
        (&["-ciphersuites", "TLS_AES_128_GCM_SHA256", "-tls1_3"], "t13d02", 1),
        (&["-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-tls1_2"], "t12d02", 1),
        (&["-sigalgs", "rsa_pss_rsae_sha256", "-no_etm"], "t13d", 1),
        (&["-servername", "DEVICE.example.com."], "t13d", 1),
        (&["-legacy_renegotiation", "-tls1_2", "-comp"], "t12d", 1),
        // A stack with small buffers cuts its hello over records.
        (&["-max_send_frag", "512", "-alpn", LONG_ALPN], "t13d", 2),
    ];
    for (arguments, ja4, records) in cases {
        let caught = openssl(&[&["-servername", NAME], arguments].concat()).await;
        let hello = caught.hello();
        assert_eq!((hello.name.as_str(), hello.facts.records), (NAME, records), "{arguments:?}");
        assert!(
            hello.facts.ja4().as_str().starts_with(ja4),
            "{arguments:?}: {}",
            hello.facts.ja4()
        );
    }
}

#[tokio::test]
async fn gnutls_in_each_version() {
    let only = |version| format!("--priority=NORMAL:-VERS-TLS-ALL:+VERS-{version}");
    let cases: [(&str, u16, &str); 7] = [
        ("--priority=NORMAL", 0x0304, "t13d"),
        (&only("TLS1.3"), 0x0304, "t13d"),
        (&only("TLS1.2"), 0x0303, "t12d"),
        (&only("TLS1.1"), 0x0302, "t11d"),
        (&only("TLS1.0"), 0x0301, "t10d"),
        ("--priority=SECURE256:%NO_EXTENSIONS", 0x0303, "none"),
        ("--priority=PERFORMANCE:%COMPAT", 0x0304, "t13d"),
    ];
    for (priority, version, ja4) in cases {
        let caught = gnutls(&[priority, "--sni-hostname", NAME]).await;
        if ja4 == "none" {
            // A hello without extensions has no name either.
            assert_eq!(caught.refusal().reason, Reason::NameMissing);
            continue;
        }
        let hello = caught.hello();
        assert_eq!((hello.name.as_str(), hello.facts.highest_version()), (NAME, version));
        assert!(hello.facts.ja4().as_str().starts_with(ja4), "{priority}: {}", hello.facts.ja4());
        assert_eq!(hello.facts.notes, Vec::<String>::new());
    }
}

#[tokio::test]
async fn gnutls_with_alpn_and_without_a_name() {
    let alpn = ["--alpn", "x-amzn-mqtt-ca", "--alpn", "mqtt"];
    let caught = gnutls(&[&alpn[..], &["--sni-hostname", NAME]].concat()).await;
    let names: Vec<&[u8]> = caught.hello().facts.alpn.iter().collect();
    assert_eq!(names, [&b"x-amzn-mqtt-ca"[..], b"mqtt"]);
    let caught = gnutls(&["--disable-sni"]).await;
    assert_eq!(caught.refusal().reason, Reason::NameMissing);
}

#[tokio::test]
async fn python_as_scripts_use_it() {
    let name = format!("{NAME:?}");
    let cases = [
        ("", 0x0304, "00_"),
        ("context.maximum_version = ssl.TLSVersion.TLSv1_2", 0x0303, "00_"),
        ("context.minimum_version = ssl.TLSVersion.TLSv1_3", 0x0304, "00_"),
        ("context.set_alpn_protocols([\"mqtt\"])", 0x0304, "mt_"),
        (
            "context.set_ciphers(\"ECDHE+AESGCM\"); context.options |= ssl.OP_NO_TICKET",
            0x0304,
            "00_",
        ),
    ];
    for (line, version, alpn) in cases {
        let caught = python(&name, line).await;
        let hello = caught.hello();
        assert_eq!((hello.name.as_str(), hello.facts.highest_version()), (NAME, version), "{line}");
        assert!(hello.facts.ja4().as_str().contains(alpn), "{line}: {}", hello.facts.ja4());
    }
    let caught = python("None", "").await;
    assert_eq!(caught.refusal().reason, Reason::NameMissing);
}

#[tokio::test]
async fn openssl_with_alpn() {
    let caught = openssl(&["-servername", NAME, "-alpn", "x-amzn-mqtt-ca,http/1.1"]).await;
    let facts = &caught.hello().facts;
    let alpn: Vec<&[u8]> = facts.alpn.iter().collect();
    assert_eq!(alpn, [&b"x-amzn-mqtt-ca"[..], b"http/1.1"]);
    assert_eq!(facts.ja4().as_str().get(8..10), Some("xa"));
}

#[tokio::test]
async fn openssl_with_names_that_are_none() {
    let cases: [(&[&str], Reason); 3] = [
        (&["-noservername"], Reason::NameMissing),
        (&["-servername", "10.0.0.1"], Reason::NameIsAddress),
        (&["-servername", "press_3.example.com"], Reason::NameMalformed),
    ];
    for (arguments, reason) in cases {
        let caught = openssl(arguments).await;
        let refusal = caught.refusal();
        assert_eq!(refusal.reason, reason);
        assert_eq!(refusal.facts.as_ref().unwrap().highest_version(), 0x0304);
    }
    let caught = openssl(&["-servername", "Device.Example.COM"]).await;
    let hello = caught.hello();
    assert_eq!(hello.name.as_str(), NAME);
    assert!(hello.facts.notes[0].contains("Device.Example.COM"));
}

#[tokio::test]
async fn curl_as_devices_use_it() {
    let resolve = format!("{NAME}:PORT:127.0.0.1");
    let address = format!("https://{NAME}:PORT/");
    let named = ["--resolve", &resolve, &address];
    let caught = curl(&named).await;
    let hello = caught.hello();
    assert_eq!(hello.name.as_str(), NAME);
    assert!(
        hello.facts.ja4().as_str().starts_with("t13d")
            && hello.facts.ja4().as_str().contains("h2_")
    );

    let caught = curl(&[&["--tls-max", "1.2", "--http1.1"], &named[..]].concat()).await;
    let facts = &caught.hello().facts;
    assert_eq!(facts.highest_version(), 0x0303);
    assert_eq!(facts.alpn.iter().collect::<Vec<_>>(), [b"http/1.1"]);

    let caught = curl(&["https://127.0.0.1:PORT/"]).await;
    assert_eq!(caught.refusal().reason, Reason::NameMissing);
    let caught = curl(&["http://127.0.0.1:PORT/"]).await;
    assert_eq!(
        caught.refusal_of_something_else().detail,
        "the first bytes look like HTTP without TLS"
    );
}

impl Caught {
    fn refusal_of_something_else(&self) -> &Refusal {
        let Progress::Refused(refusal) = &self.answer else { panic!("{:?}", self.answer) };
        assert_eq!(refusal.reason, Reason::NotTls);
        assert_eq!(refusal.first_bytes, self.hello[..16]);
        refusal
    }
}

#[tokio::test]
async fn refused_clients_log_the_alert() {
    for (flag, version) in [("-tls1", 0x0301), ("-tls1_2", 0x0303), ("-tls1_3", 0x0303)] {
        let with = [flag, "-cipher", "ALL:@SECLEVEL=0", "-servername", NAME];
        for (reason, words) in [
            (Reason::NameMissing, "alert number 112"),
            (Reason::NameNotAllowed, "alert number 49"),
            (Reason::HelloMalformed, "alert number 40"),
        ] {
            let log = openssl(&with).await.refuse(reason, version).await;
            assert!(log.contains(words), "{flag} {reason}: {log}");
        }
    }
    let log = curl(&["https://127.0.0.1:PORT/"]).await.refuse(Reason::NameMissing, 0x0303).await;
    assert!(log.contains("unrecognized name"), "{log}");
}
