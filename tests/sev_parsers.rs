//! No parser panics, whatever it is given.

use keyward::sev::launch_digest::{CpuModel, CpuSignature, Firmware};
use keyward::sev::{CaCertificate, Certificate, Measurement, PresentedChain, SessionBlob, secret_table};
use proptest::prelude::*;

use crate::sev_session::pdh;

/// Bytes of any length up to a little over the largest form, biased to the lengths that get past the first check.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop_oneof![
        0..200usize,
        0..13_000usize,
        proptest::sample::select(vec![48, 128, 576, 832, 1600, 2084, 6252, 8336, 10_000, 11_536]),
    ];
    lengths.prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes(bytes in bytes(), pdh in proptest::option::of(bytes())) {
        prop_assert!(Certificate::parse(&bytes).is_err());
        prop_assert!(CaCertificate::parse(&bytes).is_err());
        prop_assert!(PresentedChain::parse(pdh.as_deref(), &bytes).is_err());
        prop_assert_eq!(Measurement::parse(&bytes).is_ok(), bytes.len() == 48);
        prop_assert_eq!(SessionBlob::parse(&bytes).is_some(), bytes.len() == 128);
        prop_assert!(secret_table::parse(&bytes).is_err());
        prop_assert_eq!(Firmware::parse(bytes.as_slice()).is_ok(), bytes.len() >= 50);
    }

    #[test]
    fn a_certificate_with_damage(edits in proptest::collection::vec((0..2084usize, any::<u8>()), 1..8)) {
        let mut bytes = *pdh().as_bytes();
        for (offset, value) in edits {
            bytes[offset] = value;
        }
        if let Ok(certificate) = Certificate::parse(&bytes) {
            prop_assert_eq!(certificate.as_bytes(), &bytes);
        }
    }

    #[test]
    fn a_secret_table_with_damage(edits in proptest::collection::vec((0..96usize, any::<u8>()), 1..6)) {
        let entries = [1, 2].map(|guid| crate::sev_secret_table::entry(uuid::Uuid::from_u128(guid), 10));
        let mut table = secret_table::build(&entries).unwrap().to_vec();
        for (offset, value) in edits {
            if let Some(byte) = table.get_mut(offset) {
                *byte = value;
            }
        }
        if let Ok(entries) = secret_table::parse(&table) {
            prop_assert!(entries.iter().map(|entry| entry.data.len() + 20).sum::<usize>() < table.len());
        }
    }

    #[test]
    fn a_footer_table_with_damage(
        table in proptest::collection::vec(any::<u8>(), 0..100),
        length: u16,
        small in any::<bool>(),
    ) {
        let length = if small { length % 140 } else { length };
        let footer = crate::sev_launch_digest::footer(&table, length);
        if let Ok(firmware) = Firmware::parse(footer.clone()) {
            prop_assert_eq!(firmware.bytes(), &footer);
            prop_assert!(usize::from(length) <= table.len() + 18);
        }
    }

    #[test]
    fn arbitrary_text(text in ".{0,30}") {
        prop_assert!(text.parse::<CpuModel>().is_err());
        let _: Result<CpuSignature, _> = text.parse();
    }
}
