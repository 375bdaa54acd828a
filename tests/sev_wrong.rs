//! «What public implementations get wrong», as far as it concerns the bytes: a test for each, by its number.

use keyward::psp::{Ca, Platform, PlatformOptions};
use keyward::sev::launch_digest::{CpuModel, Firmware, LaunchDigestError, VmsaVariant, sev_es};
use keyward::sev::secret_table::{self, DEFAULT_AREA, Entry, LUKS_PASSPHRASE};
use keyward::sev::{Measurement, PresentedChain, TrustedRoots};
use proptest::prelude::*;
use zeroize::Zeroizing;

#[test]
fn wrong_1_a_chain_under_a_root_of_its_own_is_refused() {
    use ::sev::certs::sev::{Chain, Verifiable};
    use ::sev::parser::Decoder;
    let platform =
        Platform::generate_with_ca(&Ca::generate(2048).unwrap(), &PlatformOptions::default()).unwrap();
    let chain = platform.full_chain();

    let theirs = Chain::decode(&mut chain.as_slice(), ()).unwrap();
    let ours = PresentedChain::parse(None, &chain).unwrap();

    assert!(
        (&theirs).verify().is_ok(),
        "the sev crate takes any root that signs itself"
    );
    assert!(ours.verify(&TrustedRoots::amd()).is_err());
}

proptest! {
    #[test]
    fn wrong_5_a_bad_chain_or_measurement_never_panics(
        pdh in proptest::collection::vec(any::<u8>(), 0..2200),
        chain in proptest::collection::vec(any::<u8>(), 0..9000),
        measurement in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        prop_assert!(PresentedChain::parse(Some(&pdh), &chain).is_err());
        prop_assert!(PresentedChain::parse(None, &chain).is_err());
        prop_assert_eq!(Measurement::parse(&measurement).is_ok(), measurement.len() == 48);
    }
}

/// Where a MAC is checked there is a constant-time comparison, and nowhere is a MAC compared in another way. It
/// cannot be seen from outside, so the source is read.
#[test]
fn wrong_9_macs_are_compared_in_constant_time_only() {
    let source =
        |file: &str| std::fs::read_to_string(format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let checked = [
        ("sev/measurement.rs", 1),
        ("sev/session.rs", 2),
        ("psp/guest.rs", 1),
    ];
    for (file, times) in checked {
        assert_eq!(source(file).matches("memcmp::eq(").count(), times, "{file}");
    }
    for file in [
        "sev/measurement.rs",
        "sev/session.rs",
        "sev/packet.rs",
        "psp/guest.rs",
        "psp/platform.rs",
    ] {
        for (number, line) in source(file).lines().enumerate() {
            let compares = ["==", "!=", ".eq(", ".ne(", "assert_eq"]
                .iter()
                .any(|operator| line.contains(operator));
            let mac = ["mac", "measure", "expected", "sent"]
                .iter()
                .any(|name| line.contains(name));
            let helper = line.contains("memcmp::eq(");
            assert!(!(compares && mac) || helper, "{file}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn wrong_11_aligned_table_gets_no_padding() {
    let table = |length: usize| {
        secret_table::build_for_area(
            &[Entry {
                guid: LUKS_PASSPHRASE,
                data: Zeroizing::new(vec![1; length]),
            }],
            DEFAULT_AREA,
        )
    };

    assert_eq!(table(8).unwrap().len(), 48, "20 + 20 + 8, aligned as it is");
    assert_eq!(
        table(DEFAULT_AREA - 40).unwrap().len(),
        DEFAULT_AREA,
        "and so the area can be filled"
    );
}

#[test]
fn wrong_12_no_vcpu_is_no_guest() {
    let firmware = Firmware::parse(crate::sev_launch_digest::image(&[])).unwrap();
    let refused = sev_es(
        &firmware,
        None,
        0,
        CpuModel::Milan.signature(),
        VmsaVariant::Legacy,
    );
    assert_eq!(refused, Err(LaunchDigestError::Vcpus(0)));
}
