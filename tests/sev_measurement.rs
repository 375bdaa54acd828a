//! The launch measurement: what it proves.

use keyward::sev::measurement::{compute, verify};
use keyward::sev::{Build, LaunchKeys, Measurement, SevPolicy};
use proptest::prelude::*;

const BUILD: Build = Build {
    api_major: 0,
    api_minor: 0x12,
    build_id: 0x0f,
};

/// TEK zeros and a fixed TIK.
fn keys() -> LaunchKeys {
    LaunchKeys::from_bytes(&std::array::from_fn(|index| index as u8))
}

#[test]
fn a_measurement_is_48_bytes_measure_first() {
    let bytes: [u8; 48] = std::array::from_fn(|index| index as u8);
    let measurement = Measurement::parse(&bytes).unwrap();

    assert_eq!(
        (measurement.measure[..].to_vec(), measurement.mnonce[0]),
        (bytes[..32].to_vec(), 32)
    );
    assert_eq!(measurement.to_bytes(), bytes);
    for length in (0..200).filter(|length| *length != 48) {
        let error = Measurement::parse(&vec![0; length]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a launch measurement has 48 bytes, not {length}")
        );
    }
}

/// The `sev` crate's own example, recorded from hardware: API 0.18, build 15, policy 0, nothing loaded.
#[test]
fn a_recorded_measurement_holds() {
    let tik = hex::decode("66320db73158a35a255d051758e95ed4").unwrap();
    let keys = LaunchKeys::from_bytes(&[vec![0; 16], tik].concat().try_into().unwrap());
    let bytes = "6faab2daae389bcd3405a05d6cafe33c0414f7bedd0bae19ba5f38b7fd1664ea4fbe0bedbad6c8\
                 6ae8f68971d103e554";
    let measurement = Measurement::parse(&hex::decode(bytes).unwrap()).unwrap();
    let digest = openssl::sha::sha256(b"");

    let (attested, found) = verify(&keys, &measurement, BUILD, SevPolicy(0), [(digest, "empty")]).unwrap();

    assert_eq!(
        (attested.build(), attested.policy(), found),
        (BUILD, SevPolicy(0), "empty")
    );
    assert_eq!(
        (attested.launch_digest(), attested.measure()),
        (&digest, &measurement.measure)
    );
}

#[test]
fn every_input_is_bound() {
    let measure = compute(&keys(), BUILD, SevPolicy(5), &[7; 32], &[8; 16]);
    let holds = |build, policy, digest, mnonce| {
        let measurement = Measurement { measure, mnonce };
        verify(&keys(), &measurement, build, policy, [(digest, ())]).is_some()
    };

    assert!(holds(BUILD, SevPolicy(5), [7; 32], [8; 16]));
    assert!(!holds(
        Build {
            api_major: 1,
            ..BUILD
        },
        SevPolicy(5),
        [7; 32],
        [8; 16]
    ));
    assert!(!holds(
        Build {
            api_minor: 0x13,
            ..BUILD
        },
        SevPolicy(5),
        [7; 32],
        [8; 16]
    ));
    assert!(!holds(
        Build {
            build_id: 0x10,
            ..BUILD
        },
        SevPolicy(5),
        [7; 32],
        [8; 16]
    ));
    assert!(!holds(BUILD, SevPolicy(4), [7; 32], [8; 16]));
    assert!(!holds(BUILD, SevPolicy(5 | 1 << 31), [7; 32], [8; 16]));
    assert!(!holds(BUILD, SevPolicy(5), [6; 32], [8; 16]));
    assert!(!holds(BUILD, SevPolicy(5), [7; 32], [9; 16]));
}

#[test]
fn the_first_candidate_that_holds_is_attested_and_no_further_one_is_tried() {
    let mnonce = [8; 16];
    let measure = compute(&keys(), BUILD, SevPolicy(5), &[2; 32], &mnonce);
    let mut tried = Vec::new();
    let candidates = (0..5u8).map(|number| {
        tried.push(number);
        ([number; 32], number)
    });

    let found = verify(
        &keys(),
        &Measurement { measure, mnonce },
        BUILD,
        SevPolicy(5),
        candidates,
    );

    assert_eq!(
        found.map(|(attested, number)| (*attested.launch_digest(), number)),
        Some(([2; 32], 2))
    );
    assert_eq!(tried, [0, 1, 2]);
}

#[test]
fn no_candidate_attests_nothing() {
    let measurement = Measurement {
        measure: [0; 32],
        mnonce: [0; 16],
    };
    assert!(
        verify(
            &keys(),
            &measurement,
            BUILD,
            SevPolicy(0),
            std::iter::empty::<([u8; 32], ())>()
        )
        .is_none()
    );
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_does_not_hold(bit in 0..48 * 8usize, digest: [u8; 32], mnonce: [u8; 16]) {
        let measure = compute(&keys(), BUILD, SevPolicy(1), &digest, &mnonce);
        let mut bytes = Measurement { measure, mnonce }.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let measurement = Measurement::parse(&bytes).unwrap();
        prop_assert!(verify(&keys(), &measurement, BUILD, SevPolicy(1), [(digest, ())]).is_none());
    }
}
