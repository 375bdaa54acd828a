//! The packet that carries a secret table.

use keyward::sev::measurement::{compute, verify};
use keyward::sev::packet::{PacketError, seal};
use keyward::sev::{AttestedLaunch, Build, LaunchKeys, Measurement, SevPolicy, SystemRandom};

use crate::sev_session::Counting;

fn keys() -> LaunchKeys {
    LaunchKeys::from_bytes(&std::array::from_fn(|index| index as u8))
}

fn attested(api_major: u8, api_minor: u8) -> AttestedLaunch {
    let build = Build {
        api_major,
        api_minor,
        build_id: 1,
    };
    let measure = compute(&keys(), build, SevPolicy(3), &[1; 32], &[2; 16]);
    let measurement = Measurement {
        measure,
        mnonce: [2; 16],
    };
    verify(&keys(), &measurement, build, SevPolicy(3), [([1; 32], ())])
        .unwrap()
        .0
}

#[test]
fn a_header_is_flags_iv_and_mac() {
    let packet = seal(&keys(), &attested(1, 55), &[0; 32], &Counting::from(1)).unwrap();

    let iv: [u8; 16] = std::array::from_fn(|index| index as u8 + 1);
    assert_eq!(packet.header[..4], [0; 4]);
    assert_eq!(packet.header[4..20], iv);
    let tek = &keys().to_bytes()[..16];
    let cipher = openssl::symm::Cipher::aes_128_ctr();
    assert_eq!(
        packet.payload,
        openssl::symm::encrypt(cipher, tek, Some(&iv), &[0; 32]).unwrap()
    );
}

#[test]
fn each_packet_has_an_iv_of_its_own() {
    let seal = || seal(&keys(), &attested(1, 55), &[0; 32], &SystemRandom).unwrap();
    assert_ne!(seal().header, seal().header);
    assert_ne!(seal().payload, seal().payload);
}

#[test]
fn no_packet_is_made_for_an_api_that_does_not_bind_it() {
    for (major, minor, made) in [
        (0, 0, false),
        (0, 16, false),
        (0, 17, true),
        (0, 255, true),
        (1, 0, true),
    ] {
        let sealed = seal(&keys(), &attested(major, minor), &[0; 32], &SystemRandom);
        assert_eq!(sealed.is_ok(), made, "{major}.{minor}");
        if let Err(error) = sealed {
            assert!(matches!(error, PacketError::Unbound { .. }), "{error}");
        }
    }
}

#[test]
fn a_table_has_a_length_that_the_psp_takes() {
    for (length, made) in [
        (0, false),
        (1, false),
        (15, false),
        (16, true),
        (24, false),
        (16384, true),
        (16400, false),
    ] {
        let sealed = seal(&keys(), &attested(1, 55), &vec![0; length], &SystemRandom);
        assert_eq!(sealed.is_ok(), made, "{length} bytes");
        if let Err(error) = sealed {
            assert!(
                matches!(error, PacketError::Length(found) if found == length),
                "{error}"
            );
        }
    }
}
