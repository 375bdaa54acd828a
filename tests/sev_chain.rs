//! Certificate chains: real ones of AMD's platforms, and what must be refused.

use keyward::sev::{PresentedChain, Product, TrustedRoots};

use crate::support::vectors;

#[test]
fn a_real_chain_verifies_up_to_its_products_root() {
    for (name, product) in [
        ("naples-chain.bin", Product::Naples),
        ("rome-chain.bin", Product::Rome),
    ] {
        let Some(chain) = vectors::read(name) else { return };
        let presented = PresentedChain::parse(None, &chain).unwrap();

        let platform = presented.verify(&TrustedRoots::amd()).unwrap();

        assert_eq!((platform.root(), platform.product()), ("amd", Some(product)));
        presented.verify_without_authority().unwrap();
    }
}
