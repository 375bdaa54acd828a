//! CA, platform and guest survive being written and read back.

use keyward::psp::{Ca, Faults, Guest, Platform, PlatformOptions, PspError};
use keyward::sev::{Build, SystemRandom, packet};
use proptest::prelude::*;

use crate::psp_launch::{PLAIN, attest, launch, platform, session, table};

#[test]
fn a_platform_read_back_starts_the_sessions_made_for_it() {
    let ca = Ca::generate(2048).unwrap();
    let options = PlatformOptions {
        chip_id: Some([9; 64]),
        build: Build {
            api_major: 1,
            api_minor: 49,
            build_id: 3,
        },
        faults: Faults {
            wrong_digest: true,
            replayed_measurement: Some([4; 48]),
            ..Faults::default()
        },
    };
    let platform = Platform::generate_with_ca(&ca, &options).unwrap();
    let session = session(&platform, PLAIN);

    let back = Platform::from_bytes(&platform.to_bytes().unwrap()).unwrap();

    assert_eq!(back.full_chain(), platform.full_chain());
    assert_eq!((back.chip_id(), back.build()), (&[9; 64], options.build));
    let (_, measurement) = launch(&back, &session, PLAIN, &[0; 16]);
    assert_eq!(measurement, [4; 48], "faults are kept");
}

#[test]
fn a_ca_read_back_signs_for_the_same_root() {
    let ca = Ca::generate(2048).unwrap();

    let back = Ca::from_bytes(&ca.to_bytes().unwrap()).unwrap();

    assert_eq!(back.ark().as_bytes(), ca.ark().as_bytes());
    let platform = Platform::generate_with_ca(&back, &PlatformOptions::default()).unwrap();
    assert_eq!(platform.ark(), ca.ark().as_bytes());
    assert_eq!(platform.ask(), ca.ask().as_bytes());
}

#[test]
fn a_guest_can_be_kept_after_its_start_and_after_its_measurement() {
    let platform = platform();
    let session = session(&platform, PLAIN);
    let owner = session.owner_certificate.as_bytes();
    let started = platform
        .launch_start(PLAIN.bits(), owner, &session.blob)
        .ok()
        .unwrap();

    let mut guest = Guest::from_bytes(&started.to_bytes().unwrap()).ok().unwrap();
    guest.launch_update_data(&[3; 16]).unwrap();
    assert!(
        matches!(guest.to_bytes(), Err(PspError::Stored(_))),
        "in the middle of loading"
    );
    let measurement = guest.launch_measure().unwrap();
    let mut guest = Guest::from_bytes(&guest.to_bytes().unwrap()).ok().unwrap();

    let digest = openssl::sha::sha256(&[3; 16]);
    let attested = attest(&session, &measurement, platform.build(), PLAIN, digest).unwrap();
    let packet = packet::seal(&session.keys, &attested, &table(b"kept"), &SystemRandom).unwrap();
    assert!(
        guest
            .launch_secret(&packet.header, &packet.payload, packet.payload.len())
            .is_ok()
    );
    guest.launch_finish().unwrap();
    let guest = Guest::from_bytes(&guest.to_bytes().unwrap()).ok().unwrap();
    assert!(
        guest
            .launch_secret(&packet.header, &packet.payload, packet.payload.len())
            .is_err()
    );
}

#[test]
fn a_guest_whose_state_and_measurement_contradict_each_other_is_not_read() {
    let platform = platform();
    let session = session(&platform, PLAIN);
    let owner = session.owner_certificate.as_bytes();
    let guest = platform
        .launch_start(PLAIN.bits(), owner, &session.blob)
        .ok()
        .unwrap();
    let text = String::from_utf8(guest.to_bytes().unwrap().to_vec()).unwrap();

    let forged = text.replace("\"update\"", "\"secret\"");

    assert_ne!(forged, text);
    assert!(Guest::from_bytes(forged.as_bytes()).is_err());
}

#[test]
fn a_ca_has_one_of_two_key_sizes() {
    for bits in [0, 1024, 3072, 8192] {
        assert!(matches!(Ca::generate(bits), Err(PspError::Bits(_))), "{bits}");
    }
}

#[test]
fn a_damaged_file_is_an_error_that_does_not_quote_it() {
    let platform = platform();
    let text = String::from_utf8(platform.to_bytes().unwrap().to_vec()).unwrap();
    let key = text
        .lines()
        .find(|line| line.contains("pdh_key"))
        .unwrap()
        .split('"')
        .nth(3)
        .unwrap();

    let error = Platform::from_bytes(text.replace(key, &format!("!{key}")).as_bytes())
        .err()
        .unwrap();
    assert!(!error.to_string().contains(key), "{error}");
    let error = Platform::from_bytes(text.replace("pdh_key", "pdh_kye").as_bytes())
        .err()
        .unwrap();
    assert!(!error.to_string().contains(key), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Platform::from_bytes(&bytes).is_err());
        prop_assert!(Guest::from_bytes(&bytes).is_err());
        prop_assert!(Ca::from_bytes(&bytes).is_err());
    }
}
