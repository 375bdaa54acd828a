//! Chains that someone has had a hand in.

use keyward::psp::{Ca, Platform, PlatformOptions};
use keyward::sev::{ChainError, PresentedChain, Product, TrustedRoots};

use crate::sev_authority::pairs;
use crate::sev_chain::{part, real, verify};

/// Every byte that some signature, or the form itself, covers. Outside are only the second signatures of PDH, OCA
/// and CEK, which are marked empty and not looked at.
fn covered(chain: &[u8]) -> impl Iterator<Item = usize> {
    let empty = |offset: &usize| {
        let (certificate, within) = (offset / 2084, offset % 2084);
        [0, 2, 3].contains(&certificate) && within >= 1564
    };
    (0..chain.len()).filter(move |offset| !empty(offset))
}

#[test]
fn no_covered_byte_of_a_naples_chain_can_change() {
    no_covered_byte_can_change(Product::Naples);
}

#[test]
fn no_covered_byte_of_a_rome_chain_can_change() {
    no_covered_byte_can_change(Product::Rome);
}

fn no_covered_byte_can_change(product: Product) {
    for (_, chain) in real().into_iter().filter(|(found, _)| *found == product) {
        let mut tampered = chain.clone();
        for offset in covered(&chain) {
            tampered[offset] ^= 0x40;
            assert!(verify(&tampered).is_err(), "{product}, byte {offset}");
            tampered[offset] = chain[offset];
        }
        assert_eq!(verify(&tampered), Ok(()));
    }
}

#[test]
fn a_chain_cut_at_any_length_is_refused_but_for_the_form_without_an_authority() {
    for (product, chain) in real() {
        for length in 0..chain.len() {
            let refused = verify(&chain[..length]).is_err();
            let form = length == 4 * 2084 || (product, length) == (Product::Naples, 9744);
            assert_eq!(refused, !form, "{product}, {length} bytes");
        }
    }
}

#[test]
fn certificates_in_each_others_places_are_refused() {
    for (_, chain) in real() {
        for one in 0..4 {
            for other in 0..4 {
                let mut swapped = chain.clone();
                swapped[part(one)].copy_from_slice(&chain[part(other)]);
                swapped[part(other)].copy_from_slice(&chain[part(one)]);
                assert_eq!(verify(&swapped).is_ok(), one == other, "{one} and {other}");
            }
        }
        let mut swapped = chain.clone();
        let half = (chain.len() - 4 * 2084) / 2;
        let (ask, ark) = swapped[4 * 2084..].split_at_mut(half);
        ask.swap_with_slice(ark);
        assert!(matches!(verify(&swapped), Err(ChainError::Misplaced { .. })));
    }
}

#[test]
fn a_part_of_another_platforms_chain_is_refused() {
    let chains = real();
    let [(_, naples), (_, rome)] = chains.as_slice() else {
        return;
    };
    for (ours, theirs) in [(naples, rome), (rome, naples)] {
        for number in 0..4 {
            let mut mixed = ours.clone();
            mixed[part(number)].copy_from_slice(&theirs[part(number)]);
            assert!(verify(&mixed).is_err(), "part {number} with an authority");
            assert!(verify(&mixed[..4 * 2084]).is_err(), "part {number} without");
        }
        let foreign_authority = [&ours[..4 * 2084], &theirs[4 * 2084..]].concat();
        assert!(verify(&foreign_authority).is_err());
    }
}

#[test]
fn another_products_authority_is_refused_though_it_is_amds() {
    for (product, chain) in real() {
        for (other, ark, ask) in pairs() {
            let mixed = [&chain[..4 * 2084], ask, ark].concat();
            assert_eq!(
                verify(&mixed).is_ok(),
                product == other,
                "{product} under {other}"
            );
        }
    }
}

#[test]
fn a_root_of_ones_own_is_refused_in_either_size() {
    for bits in [2048, 4096] {
        let ca = Ca::generate(bits).unwrap();
        let platform = Platform::generate_with_ca(&ca, &PlatformOptions::default()).unwrap();

        let refused = verify(&platform.full_chain()).unwrap_err();
        let ark = hex::encode(ca.ark().fingerprint());
        assert_eq!(refused, ChainError::UntrustedRoot(ark));

        let without = PresentedChain::parse(Some(&platform.pdh()), &platform.cert_chain_signed()).unwrap();
        assert_eq!(
            without.verify(&TrustedRoots::amd()).unwrap_err(),
            ChainError::NoIssuer
        );

        // The same with AMD's ARK appended, and with a root that takes AMD's name.
        let (_, amd_ark, amd_ask) = pairs()[usize::from(bits == 4096)];
        let lent = [&platform.full_chain()[..4 * 2084], &platform.ask(), amd_ark].concat();
        assert!(verify(&lent).is_err());
        let lent = [&platform.full_chain()[..4 * 2084], amd_ask, amd_ark].concat();
        assert!(verify(&lent).is_err());
        let mut disguised = platform.full_chain();
        let start = disguised.len() - amd_ark.len();
        disguised[start..start + 64].copy_from_slice(&amd_ark[..64]);
        assert!(matches!(verify(&disguised), Err(ChainError::UntrustedRoot(_))));
    }
}
