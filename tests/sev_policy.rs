//! The SEV policy's bits and the schemes' names.

use keyward::sev::{Product, Scheme, SevPolicy};
use proptest::prelude::*;

#[test]
fn each_named_bit_is_where_the_specification_has_it() {
    let bits = |policy: SevPolicy| {
        [
            policy.no_debug(),
            policy.no_key_sharing(),
            policy.es(),
            policy.no_send(),
            policy.domain(),
            policy.sev(),
        ]
    };
    for bit in 0..32 {
        let policy = SevPolicy(1 << bit);
        assert_eq!(
            bits(policy),
            std::array::from_fn(|index| index == bit),
            "bit {bit}"
        );
        assert_eq!(policy.reserved_bits() != 0, (6..16).contains(&bit), "bit {bit}");
    }
    let policy = SevPolicy(0x1701_0007);
    assert_eq!(
        (policy.min_api_major(), policy.min_api_minor(), policy.scheme()),
        (1, 0x17, Scheme::AmdSevEs)
    );
}

#[test]
fn names_are_read_as_they_are_written_and_no_other_way() {
    for scheme in [Scheme::AmdSev, Scheme::AmdSevEs] {
        assert_eq!(scheme.to_string().parse(), Ok(scheme));
        assert_eq!(serde_json::to_value(scheme).unwrap(), scheme.as_str());
    }
    for product in Product::ALL {
        assert_eq!(product.to_string().parse(), Ok(product));
        assert_eq!(serde_json::to_value(product).unwrap(), product.as_str());
    }
    for text in ["", "AMD-SEV", "sev", "amd-sev-snp", "amd-sev "] {
        assert!(text.parse::<Scheme>().is_err(), "{text:?}");
    }
    for text in ["", "Naples", "zen3"] {
        assert!(text.parse::<Product>().is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_bit_is_lost(bits: u32) {
        prop_assert_eq!(SevPolicy(bits).bits(), bits);
        prop_assert_eq!(serde_json::from_str::<SevPolicy>(&bits.to_string()).unwrap(), SevPolicy(bits));
    }
}
