//! OpenSSL's own client and server, in TLS 1.2 and 1.3.

use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::{Lab, Process, inside};

use crate::SOON;
use crate::program::{Output, Program, run};
use crate::stand::{ENI, PRESS, Stand, serve};

/// Sends every line back reversed.
fn server(lab: &Lab) -> Process {
    let (pki, at) = (lab.pki(), format!("{ENI}:8883"));
    let certificate = pki.server.certificate_file.display().to_string();
    let key = pki.server.key_file.display().to_string();
    let args = ["s_server", "-rev", "-accept", &at, "-cert", &certificate, "-key", &key];
    serve(lab, &[8883], "openssl", &args)
}

#[test]
fn lines_go_both_ways_and_the_certificate_is_the_endpoints() {
    inside::test("openssl::lines_go_both_ways_and_the_certificate_is_the_endpoints", || {
        let (stand, server) = Stand::up(IOT_DATA, 11, server);
        let (lab, pki) = (&stand.lab, stand.lab.pki());
        let to = format!("{}:8883", stand.dialled);
        let authority = pki.authority_file.display().to_string();
        let stranger = pki.device.certificate_file.display().to_string();
        let call = |version: &'static str, trusted: &str| {
            ["openssl", "s_client", version, "-connect", &to, "-servername", IOT_DATA]
                .into_iter()
                .chain(["-CAfile", trusted, "-verify_hostname", IOT_DATA, "-verify_return_error"])
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let shown = std::fs::read_to_string(&pki.server.certificate_file).unwrap();
        for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let words = call(option, &authority);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut client = Program::start(lab, PRESS, &words, Output::Kept);
            client.write("weir and sluice\n");
            client.wait_for("eciuls dna riew\n", SOON);
            client.close_input();
            let ended = client.end(SOON);
            assert_eq!(ended.code, Some(0), "{}", ended.said);
            let said = ended.said.replace('\r', "");
            assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
            assert!(said.contains(&format!("Verified peername: {IOT_DATA}")), "{said}");
            assert!(said.contains(version), "{said}");
            // Word for word the endpoint's: nobody in between shows one of its own.
            assert!(said.contains(shown.replace('\r', "").trim()), "{said}");
            assert!(server.said().contains(&format!("Protocol version: {version}")));
        }
        // That the client does look: with another authority it refuses the same server.
        let words = call("-tls1_3", &stranger);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let refused = run(lab, PRESS, &words, SOON);
        assert_ne!(refused.code, Some(0), "{}", refused.said);
        assert!(refused.said.contains("verify error"), "{}", refused.said);

        let flows = stand.finish();
        let versions: Vec<&str> = flows.iter().map(|flow| flow.tls_version()).collect();
        assert_eq!(versions, ["1.2", "1.3", "1.3"]);
    });
}
