//! CA certificates and trusted roots.

use keyward::sev::authority::AMD;
use keyward::sev::{AuthorityError, CaCertificate, Product, TrustedRoots, Usage};

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
