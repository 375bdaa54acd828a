//! CA certificates and trusted roots.

use keyward::psp::Ca;
use keyward::sev::authority::AMD;
use keyward::sev::{AuthorityError, CaCertificate, Product, TrustedRoots, Usage};
use openssl::sha::sha256;

/// AMD's pairs as the `sev` crate carries them: an independent copy.
pub(crate) fn pairs() -> [(Product, &'static [u8], &'static [u8]); 5] {
    use ::sev::certs::sev::builtin::{genoa, milan, naples, rome, turin};
    [
        (Product::Naples, naples::ARK, naples::ASK),
        (Product::Rome, rome::ARK, rome::ASK),
        (Product::Milan, milan::ARK, milan::ASK),
        (Product::Genoa, genoa::ARK, genoa::ASK),
        (Product::Turin, turin::ARK, turin::ASK),
    ]
}

#[test]
fn the_pinned_pairs_are_those_that_the_sev_crate_carries() {
    for (product, ark, ask) in pairs() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sev/authority");
        assert_eq!(std::fs::read(format!("{folder}/{product}-ark.bin")).unwrap(), ark);
        assert_eq!(std::fs::read(format!("{folder}/{product}-ask.bin")).unwrap(), ask);
        let (ark, ask) = (
            CaCertificate::parse(ark).unwrap(),
            CaCertificate::parse(ask).unwrap(),
        );
        assert_eq!((ark.usage(), ask.usage()), (Usage::Ark, Usage::Ask));
        assert!(ark.is_signed_by(&ark) && ask.is_signed_by(&ark) && !ark.is_signed_by(&ask));
        // That it is trusted shows in that it cannot be added again.
        let added = TrustedRoots::amd().with_extra("again", ark);
        assert_eq!(
            added.err(),
            Some(AuthorityError::Duplicate(AMD.to_owned())),
            "{product}"
        );
    }
}

#[test]
fn each_pinned_root_has_the_key_id_that_amd_gave_it() {
    let ids = [
        "1bb987c359494606b174945601c9ea5b",
        "e6002122fb58419399d15fee7b131351",
        "94c38e4177d0479292a7ae671d083fb6",
        "9f9d4a8fe761456599f6946c4c010f3a",
        "d05c3a8bde484904b49552422ceb3942",
    ];
    for ((product, ark, ask), id) in pairs().into_iter().zip(ids) {
        assert_eq!(
            hex::encode(CaCertificate::parse(ark).unwrap().key_id()),
            id,
            "{product}"
        );
        assert_eq!(
            hex::encode(CaCertificate::parse(ask).unwrap().certifying_id()),
            id,
            "{product}"
        );
    }
}

#[test]
fn the_naples_ark_without_its_signature_has_the_same_fingerprint() {
    let (_, ark, ask) = pairs()[0];
    let full = CaCertificate::parse(ark).unwrap();
    let short = CaCertificate::parse(&ark[..576]).unwrap();

    assert_eq!(short.fingerprint(), full.fingerprint());
    assert_eq!(full.fingerprint(), sha256(&ark[..576]));
    assert!(full.is_signed() && !short.is_signed() && !short.is_signed_by(&full));
    assert_eq!(
        CaCertificate::parse(&ask[..576]).err(),
        Some(AuthorityError::Length(576)),
        "no ASK is unsigned"
    );
}

#[test]
fn no_byte_of_a_ca_certificate_can_change() {
    for (product, ark, ask) in [pairs()[0], pairs()[1]] {
        let signer = CaCertificate::parse(ark).unwrap();
        for offset in 0..ask.len() {
            let mut bytes = ask.to_vec();
            bytes[offset] ^= 0x80;
            let holds = CaCertificate::parse(&bytes).is_ok_and(|ask| ask.is_signed_by(&signer));
            assert!(!holds, "{product}, byte {offset}");
        }
    }
}

#[test]
fn other_lengths_versions_usages_and_key_sizes_are_refused() {
    let (_, _, ask) = pairs()[1];
    for length in (0..1700).filter(|length| ![576, 832, 1600].contains(length)) {
        let bytes = vec![0; length];
        assert_eq!(
            CaCertificate::parse(&bytes).err(),
            Some(AuthorityError::Length(length))
        );
    }
    let with = |offset: usize, byte| {
        let mut bytes = ask.to_vec();
        bytes[offset] = byte;
        CaCertificate::parse(&bytes).err()
    };
    assert_eq!(with(0, 2), Some(AuthorityError::Version(2)));
    assert_eq!(with(36, 0x14), Some(AuthorityError::Usage(0x14)));
    assert_eq!(with(40, 1), Some(AuthorityError::Reserved));
    for (offset, byte) in [(57, 8), (61, 8), (64, 0), (64, 2), (575, 1), (1087, 0x0f)] {
        assert_eq!(
            with(offset, byte),
            Some(AuthorityError::Key),
            "{byte} at {offset}"
        );
    }
}

#[test]
fn an_extra_root_is_a_self_signed_ark_with_a_name_of_its_own() {
    let ca = Ca::generate(2048).unwrap();
    let other = Ca::generate(2048).unwrap();
    let amd = TrustedRoots::amd;
    let error = |result: Result<TrustedRoots, AuthorityError>| result.err();
    let mut broken = ca.ark().as_bytes().to_vec();
    broken[831] ^= 1;
    let unsigned = CaCertificate::parse(&ca.ark().as_bytes()[..576]).unwrap();

    let roots = amd().with_extra("lab", ca.ark().clone()).unwrap();

    assert_eq!(roots.extra_names().collect::<Vec<_>>(), ["lab"]);
    assert_eq!(amd().extra_names().count(), 0);
    let again = error(roots.clone().with_extra("lab2", ca.ark().clone()));
    assert_eq!(again, Some(AuthorityError::Duplicate("lab".into())));
    for name in ["lab", "amd", "", " "] {
        let taken = error(roots.clone().with_extra(name, other.ark().clone()));
        assert_eq!(taken, Some(AuthorityError::Name(name.into())));
    }
    assert_eq!(
        error(amd().with_extra("lab", ca.ask().clone())),
        Some(AuthorityError::NotAnArk)
    );
    for ark in [CaCertificate::parse(&broken).unwrap(), unsigned] {
        assert_eq!(
            error(amd().with_extra("lab", ark)),
            Some(AuthorityError::NotSelfSigned)
        );
    }
    let pair = |ark: &CaCertificate, ask: &CaCertificate| {
        error(amd().with_extra_pair("lab", ark.clone(), ask.clone()))
    };
    assert_eq!(pair(ca.ark(), ca.ask()), None);
    assert_eq!(pair(ca.ark(), other.ask()), Some(AuthorityError::ForeignAsk));
    assert_eq!(pair(ca.ark(), ca.ark()), Some(AuthorityError::NotAnAsk));
}
