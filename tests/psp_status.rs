//! Every way in which the software PSP refuses, with the specification's code.

use keyward::psp::{Guest, GuestState, Platform, PlatformOptions, Status};
use keyward::sev::{Build, Session, SevPolicy, SystemRandom, packet};

use crate::psp_launch::{ENCRYPTED_STATE, PLAIN, attest, launch, platform, platform_with, session, table};

fn start(platform: &Platform, session: &Session, policy: SevPolicy) -> Result<Guest, Status> {
    platform.launch_start(policy.bits(), session.owner_certificate.as_bytes(), &session.blob)
}

fn code<T>(result: Result<T, Status>) -> u32 {
    result.err().map_or(0, Status::code)
}

#[test]
fn a_status_has_the_specifications_number() {
    let codes = [
        (Status::PlatformState, 1),
        (Status::GuestState, 2),
        (Status::Configuration, 3),
        (Status::Length, 4),
        (Status::Certificate, 6),
        (Status::Policy, 7),
        (Status::Inactive, 8),
        (Status::Address, 9),
        (Status::Signature, 10),
        (Status::Measurement, 11),
        (Status::Hardware, 19),
        (Status::Unsupported, 21),
        (Status::Parameter, 22),
    ];
    for (status, code) in codes {
        assert_eq!(status.code(), code);
        assert!(status.to_string().ends_with(&format!("({code})")), "{status}");
    }
}

#[test]
fn launch_start_checks_lengths_then_the_certificate() {
    let platform = platform();
    let session = session(&platform, PLAIN);
    let owner = session.owner_certificate.as_bytes();
    let with = |owner: &[u8], blob: &[u8]| code(platform.launch_start(3, owner, blob));

    assert_eq!(with(owner, &session.blob), 0);
    assert_eq!(with(&owner[1..], &session.blob), 4);
    assert_eq!(with(owner, &session.blob[1..]), 4);
    assert_eq!(with(owner, &[]), 4);
    let mut off_curve = *owner;
    off_curve[20] ^= 1;
    assert_eq!(with(&off_curve, &session.blob), 6);
    let mut infinity = *owner;
    infinity[20..164].fill(0);
    assert_eq!(with(&infinity, &session.blob), 6);
    assert_eq!(
        with(&platform.signed_cek(), &session.blob),
        6,
        "a CEK is no owner's certificate"
    );
}

#[test]
fn launch_start_refuses_a_session_that_was_altered_or_is_anothers() {
    let (ours, other) = (platform(), platform());
    let session = session(&ours, PLAIN);
    let owner = session.owner_certificate.as_bytes();

    for offset in 0..session.blob.len() {
        let mut blob = session.blob;
        blob[offset] ^= 1;
        assert_eq!(code(ours.launch_start(3, owner, &blob)), 11, "byte {offset}");
    }
    assert_eq!(code(start(&other, &session, PLAIN)), 11, "another platform");
    for policy in [0, 1, 2, 7, 0x0001_0003] {
        assert_eq!(
            code(start(&ours, &session, SevPolicy(policy))),
            11,
            "policy {policy:#x}"
        );
    }
}

#[test]
fn launch_start_refuses_reserved_bits_and_a_newer_minimum() {
    let build = Build {
        api_major: 0,
        api_minor: 24,
        build_id: 1,
    };
    let platform = platform_with(&PlatformOptions {
        build,
        ..PlatformOptions::default()
    });
    let with = |policy| {
        code(start(
            &platform,
            &session(&platform, SevPolicy(policy)),
            SevPolicy(policy),
        ))
    };

    for bit in 6..16 {
        assert_eq!(with(3 | 1 << bit), 7, "bit {bit}");
    }
    assert_eq!(with(3 | 24 << 24), 0, "minimum 0.24");
    assert_eq!(with(3 | 25 << 24), 7, "minimum 0.25");
    assert_eq!(with(3 | 1 << 16), 7, "minimum 1.0");
    assert_eq!(with(0x3f), 0, "every named bit");
}

#[test]
fn loading_takes_whole_blocks_into_an_active_guest_that_is_not_measured() {
    let platform = platform();
    let mut guest = start(&platform, &session(&platform, ENCRYPTED_STATE), ENCRYPTED_STATE)
        .ok()
        .unwrap();

    for length in [0, 1, 15, 17] {
        assert_eq!(
            code(guest.launch_update_data(&vec![0; length])),
            4,
            "{length} bytes"
        );
    }
    for length in [0, 16, 4095, 8192] {
        assert_eq!(
            code(guest.launch_update_vmsa(&vec![0; length])),
            4,
            "{length} bytes"
        );
    }
    guest.deactivate();
    assert_eq!(code(guest.launch_update_data(&[0; 16])), 8);
    assert_eq!(code(guest.launch_update_vmsa(&[0; 4096])), 8);
    guest.activate();
    guest.launch_update_data(&[0; 16]).unwrap();
    guest.launch_measure().unwrap();
    assert_eq!(code(guest.launch_update_data(&[0; 16])), 2);
    assert_eq!(code(guest.launch_update_vmsa(&[0; 4096])), 2);
    assert_eq!(code(guest.launch_measure()), 2);

    let mut plain = start(&platform, &session(&platform, PLAIN), PLAIN).ok().unwrap();
    assert_eq!(
        code(plain.launch_update_vmsa(&[0; 4096])),
        7,
        "no vCPU state under plain SEV"
    );
}

#[test]
fn launch_secret_checks_state_activity_lengths_flags_and_mac_in_this_order() {
    let platform = platform();
    let session = session(&platform, PLAIN);
    let digest = openssl::sha::sha256(&[1; 32]);
    let fresh = start(&platform, &session, PLAIN).ok().unwrap();
    let (mut guest, measurement) = launch(&platform, &session, PLAIN, &[1; 32]);
    let attested = attest(&session, &measurement, platform.build(), PLAIN, digest).unwrap();
    let packet = packet::seal(&session.keys, &attested, &table(b"secret"), &SystemRandom).unwrap();
    let length = packet.payload.len();
    let broken = |offset: usize| {
        let mut header = packet.header;
        header[offset] ^= 1;
        header
    };

    assert_eq!(
        code(fresh.launch_secret(&packet.header, &packet.payload, length)),
        2,
        "not measured yet"
    );
    assert_eq!(
        code(guest.launch_secret(&packet.header, &packet.payload, length)),
        0
    );
    guest.deactivate();
    assert_eq!(
        code(guest.launch_secret(&packet.header[1..], &[], 0)),
        8,
        "inactive before any length"
    );
    guest.activate();
    assert_eq!(
        code(guest.launch_secret(&broken(0)[1..], &packet.payload, length)),
        4,
        "short header"
    );
    assert_eq!(
        code(guest.launch_secret(&broken(0), &packet.payload, length + 16)),
        4,
        "lengths differ"
    );
    for length in [0, 8, 24, 16400] {
        assert_eq!(
            code(guest.launch_secret(&broken(0), &vec![0; length], length)),
            4,
            "{length} bytes"
        );
    }
    assert_eq!(
        code(guest.launch_secret(&broken(0), &packet.payload, length)),
        21,
        "compressed"
    );
    for offset in 1..packet.header.len() {
        assert_eq!(
            code(guest.launch_secret(&broken(offset), &packet.payload, length)),
            11,
            "byte {offset}"
        );
    }
    let mut payload = packet.payload.clone();
    payload[0] ^= 1;
    assert_eq!(code(guest.launch_secret(&packet.header, &payload, length)), 11);
    guest.launch_finish().unwrap();
    assert_eq!(
        code(guest.launch_secret(&packet.header, &packet.payload, length)),
        2,
        "running"
    );
}

#[test]
fn launch_finish_needs_a_measured_guest_once() {
    let platform = platform();
    let mut guest = start(&platform, &session(&platform, PLAIN), PLAIN).ok().unwrap();

    assert_eq!(
        (guest.state(), code(guest.launch_finish())),
        (GuestState::Update, 2)
    );
    guest.launch_measure().unwrap();
    assert_eq!(
        (guest.state(), code(guest.launch_finish())),
        (GuestState::Secret, 0)
    );
    assert_eq!(
        (guest.state(), code(guest.launch_finish())),
        (GuestState::Running, 2)
    );
}
