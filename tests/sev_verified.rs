//! Chains that were verified before: the same bytes are found, and nothing else is.

use std::sync::Arc;

use keyward::psp::Platform;
use keyward::sev::verified::{Known, VerifiedChains};
use keyward::sev::{ChainError, TrustedRoots, VerifiedPlatform};

use crate::support::{ca, platform};

fn roots(name: &str) -> TrustedRoots {
    TrustedRoots::amd().with_extra(name, ca().ark().clone()).unwrap()
}

fn pair() -> TrustedRoots {
    let (ark, ask) = (ca().ark().clone(), ca().ask().clone());
    TrustedRoots::amd().with_extra_pair("test", ark, ask).unwrap()
}

fn read(chains: &VerifiedChains, chain: &[u8], roots: &TrustedRoots) -> Arc<VerifiedPlatform> {
    match chains.read(None, chain, roots).unwrap() {
        Known::Verified(platform) => platform,
        Known::ButForCek(_) => panic!("the CEK is signed"),
    }
}

#[test]
fn the_same_bytes_are_verified_once() {
    let (chains, roots, chain) = (VerifiedChains::new(8), roots("test"), platform().full_chain());
    let first = read(&chains, &chain, &roots);
    let second = read(&chains, &chain, &roots);
    assert!(Arc::ptr_eq(&first, &second), "the second is the first one's");
    assert_eq!(chains.len(), 1);
}

#[test]
fn a_changed_byte_anywhere_finds_nothing() {
    let (chains, roots, chain) = (VerifiedChains::new(4096), roots("test"), platform().full_chain());
    let known = read(&chains, &chain, &roots);
    // Every byte of the heads, and some of each stretch that is long.
    for at in (0..chain.len()).filter(|at| at % 2084 < 24 || at % 41 == 0) {
        let mut changed = chain.clone();
        changed[at] ^= 1;
        match chains.read(None, &changed, &roots) {
            Ok(Known::Verified(other)) => assert!(!Arc::ptr_eq(&known, &other), "byte {at}"),
            Ok(Known::ButForCek(_)) | Err(_) => {}
        }
    }
    assert!(Arc::ptr_eq(&known, &read(&chains, &chain, &roots)));
}

#[test]
fn bytes_do_not_pass_from_the_pdh_to_the_chain() {
    let (chains, roots, platform) = (VerifiedChains::new(8), roots("test"), platform());
    let (pdh, chain) = (platform.pdh(), platform.full_chain());
    let rest = &chain[pdh.len()..];
    chains.read(Some(&pdh), rest, &roots).unwrap();
    // The same bytes, cut elsewhere.
    let shorter = &pdh[..pdh.len() - 1];
    let longer = [&pdh[pdh.len() - 1..], rest].concat();
    assert!(chains.read(Some(shorter), &longer, &roots).is_err());
    read(&chains, &chain, &roots);
    assert_eq!(chains.len(), 2, "another form of the chain is another entry");
}

#[test]
fn other_roots_find_nothing() {
    let (chains, chain) = (VerifiedChains::new(8), platform().full_chain());
    assert_eq!(read(&chains, &chain, &roots("test")).root(), "test");
    let refused = chains.read(None, &chain, &TrustedRoots::amd()).err();
    assert!(
        matches!(refused, Some(ChainError::UntrustedRoot(_))),
        "{refused:?}"
    );
    assert_eq!(read(&chains, &chain, &roots("renamed")).root(), "renamed");
}

#[test]
fn what_does_not_verify_is_not_kept() {
    let (chains, roots) = (VerifiedChains::new(8), roots("test"));
    let mut chain = platform().full_chain();
    *chain.last_mut().unwrap() ^= 1;
    for _ in 0..2 {
        assert!(chains.read(None, &chain, &roots).is_err());
    }
    assert!(chains.read(None, &[0; 100], &roots).is_err());
    assert!(chains.is_empty());
}

#[test]
fn the_least_used_gives_way() {
    let (chains, roots) = (VerifiedChains::new(2), roots("test"));
    let [one, two, three] = [(); 3].map(|()| platform().full_chain());
    let first = read(&chains, &one, &roots);
    let second = read(&chains, &two, &roots);
    assert!(Arc::ptr_eq(&first, &read(&chains, &one, &roots)));
    read(&chains, &three, &roots);
    assert_eq!(chains.len(), 2);
    assert!(
        Arc::ptr_eq(&first, &read(&chains, &one, &roots)),
        "it was used since"
    );
    assert!(!Arc::ptr_eq(&second, &read(&chains, &two, &roots)));
}

#[test]
fn chains_that_anybody_can_make_displace_no_others() {
    let (chains, roots) = (VerifiedChains::new(8), pair());
    let [one, two] = [(); 2].map(|()| platform().full_chain());
    let known = [read(&chains, &one, &roots), read(&chains, &two, &roots)];
    for _ in 0..16 {
        let platform = platform();
        let unsigned = platform.cert_chain().unwrap();
        let but_for_cek = chains.read(Some(&platform.pdh()), &unsigned, &roots).unwrap();
        assert!(matches!(but_for_cek, Known::ButForCek(_)));
    }
    assert_eq!(chains.len(), 4, "a quarter of the places is theirs");
    for (known, chain) in known.iter().zip([&one, &two]) {
        assert!(Arc::ptr_eq(known, &read(&chains, chain, &roots)));
    }
    // Nor do they keep others out.
    for _ in 0..16 {
        read(&chains, &platform().full_chain(), &roots);
    }
    assert_eq!(chains.len(), 8);
}

#[test]
fn with_room_for_none_every_chain_is_verified() {
    let (chains, roots, chain) = (VerifiedChains::new(0), roots("test"), platform().full_chain());
    let first = read(&chains, &chain, &roots);
    assert!(!Arc::ptr_eq(&first, &read(&chains, &chain, &roots)));
    assert!(chains.is_empty());
}

#[test]
fn an_unsigned_cek_is_verified_with_the_certificate_that_completes_it() {
    let (chains, roots, platform) = (VerifiedChains::new(8), pair(), platform());
    let unsigned = platform.cert_chain().unwrap();
    let but_for_cek = || match chains.read(Some(&platform.pdh()), &unsigned, &roots).unwrap() {
        Known::ButForCek(chain) => chain,
        Known::Verified(_) => panic!("the CEK is not signed"),
    };
    let chain = but_for_cek();
    assert!(Arc::ptr_eq(&chain, &but_for_cek()));
    let refused = chains.verify(&chain, &roots).err();
    assert!(
        matches!(refused, Some(ChainError::Unsigned { .. })),
        "{refused:?}"
    );

    let complete = |platform: &Platform| {
        let cek = keyward::sev::Certificate::parse(&platform.signed_cek()).unwrap();
        chain.with_signed_cek(&cek)
    };
    let completed = complete(&platform).unwrap();
    let first = chains.verify(&completed, &roots).unwrap();
    assert!(Arc::ptr_eq(&first, &chains.verify(&completed, &roots).unwrap()));
    // The same key, signed anew: other bytes, which are verified anew.
    let again = ca().sign_cek(chain.cek()).unwrap();
    let again = chain.with_signed_cek(&again).unwrap();
    assert!(!Arc::ptr_eq(&first, &chains.verify(&again, &roots).unwrap()));
}
