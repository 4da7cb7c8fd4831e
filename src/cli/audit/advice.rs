//! What a finding means, and what to do about it.

use crate::audit::verify::Code;

/// What it means, and what to do.
pub(super) fn advice(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::NotARecord | Code::SegmentDamaged | Code::SequenceWrong | Code::LinkBroken => (
            "a record was changed, added or put elsewhere after it was written",
            "keep these files as evidence, and compare with the shipped copy from this record on",
        ),
        Code::SignatureMissing | Code::SignatureWrong | Code::CheckpointWrong => (
            "somebody without the log's key wrote or changed this line",
            "keep these files as evidence, and compare with the shipped copy from this record on",
        ),
        Code::KeyNotValid => (
            "somebody with a key of another time signed this line: old records were rewritten",
            "keep these files as evidence; treat the box and its key of that time as stolen",
        ),
        Code::KeyReplaced => (
            "either this is the key of another box, or the log was written anew with other keys",
            "compare the pinned fingerprint with the one noted at install",
        ),
        Code::KeyChainBroken | Code::KeyRecordWrong => (
            "the keys from this one on are not proven by the one before",
            "keep these files as evidence; trust the log up to the last proven key only",
        ),
        Code::ManifestWrong => (
            "a closed segment or the list of them was changed",
            "keep these files as evidence, and compare with the shipped copy of the segment",
        ),
        Code::AnchorDiffers => (
            "the log was written anew behind the last checkpoint before this one",
            "keep these files and the anchor as evidence",
        ),
        Code::RecordsMissing | Code::StartMissing => (
            "records were removed, or a file was lost",
            "fetch the missing records from the shipped copy; look for who could write here",
        ),
        Code::CheckpointMissing => (
            "nobody can say that nothing happened in this time",
            "look in the system's journal for why the gate or its disk stood still",
        ),
        Code::TailCut => (
            "the newest records were removed, or an old copy of the files was put in place",
            "fetch the missing records from the shipped copy; look for who could write here",
        ),
        Code::Gap => (
            "the disk was full, and audit.on-full lets new records replace old ones",
            "fetch the missing records from the shipped copy, if a sink had them; make room",
        ),
        Code::Unreadable => {
            ("not all of the log could be read", "read it as root or as a member of its group")
        }
        Code::NotSigned => (
            "the log is empty, or of a version that did not sign",
            "check the directory; let the daemon start once with this version",
        ),
        Code::KeysMissing => (
            "the log may be genuine, but this key does not prove it",
            "copy keys.ndjson together with the segments",
        ),
        Code::AnchorInvalid => (
            "the anchor is of another log, or was damaged",
            "use the checkpoint as it was kept, byte for byte",
        ),
        Code::Refused => ("there is nothing to verify with", "give the files as they were kept"),
        Code::Retention
        | Code::AnchorRemoved
        | Code::CertificateMissing
        | Code::ManifestMissing
        | Code::TornTail
        | Code::TornEvidence
        | Code::Recovery
        | Code::Outage
        | Code::CopyInvalid => ("a note", "nothing"),
    }
}
