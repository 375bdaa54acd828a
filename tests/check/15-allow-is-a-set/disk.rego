package release.disk

allow contains "acme" if input.attested.policy_bits.no_debug == true
