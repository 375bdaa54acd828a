package keyward.sev_test

import data.keyward.fixture
import data.keyward.sev

_changed(change) := object.union(fixture.release, {"attested": change})

test_policy_bits if {
	sev.no_debug with input as fixture.release
	sev.no_key_sharing with input as fixture.release
	sev.es with input as fixture.release
	not sev.no_send with input as fixture.release
}

test_a_cleared_bit_does_not_hold if {
	weak := _changed({"policy_bits": {"no_debug": false, "no_key_sharing": false, "es": false}})
	not sev.no_debug with input as weak
	not sev.no_key_sharing with input as weak
	not sev.es with input as weak
}

test_nothing_holds_at_launch if {
	not sev.no_debug with input as fixture.launch
	not sev.no_key_sharing with input as fixture.launch
	not sev.es with input as fixture.launch
	not sev.no_send with input as fixture.launch
	not sev.min_api_version(0, 0) with input as fixture.launch
	not sev.build_at_least(0) with input as fixture.launch
	not sev.build_in([null]) with input as fixture.launch
	not sev.launch_digest_in([null]) with input as fixture.launch
	not sev.digest_named_by_owner with input as fixture.launch
}

test_min_api_version if {
	sev.min_api_version(1, 55) with input as fixture.release
	sev.min_api_version(1, 0) with input as fixture.release
	sev.min_api_version(0, 99) with input as fixture.release
	not sev.min_api_version(1, 56) with input as fixture.release
	not sev.min_api_version(2, 0) with input as fixture.release
}

test_versions_that_are_no_numbers_never_hold if {
	not sev.min_api_version(null, null) with input as fixture.release
	not sev.min_api_version(1, null) with input as fixture.release
	not sev.build_at_least(null) with input as fixture.release
}

test_build_at_least if {
	sev.build_at_least(21) with input as fixture.release
	not sev.build_at_least(22) with input as fixture.release
}

test_build_in if {
	sev.build_in([20, 21]) with input as fixture.release
	sev.build_in({21}) with input as fixture.release
	not sev.build_in({20}) with input as fixture.release
	not sev.build_in([]) with input as fixture.release
	not sev.build_in(set()) with input as fixture.release
}

test_launch_digest_in if {
	sev.launch_digest_in(["c2c0"]) with input as fixture.release
	sev.launch_digest_in({"0000", "C2C0"}) with input as fixture.release
	not sev.launch_digest_in(["c2c1"]) with input as fixture.release
}

test_an_empty_list_of_digests_never_holds if {
	not sev.launch_digest_in([]) with input as fixture.release
	not sev.launch_digest_in(set()) with input as fixture.release
	not sev.launch_digest_in([null, 3]) with input as fixture.release
}

test_digest_named_by_owner if {
	sev.digest_named_by_owner with input as fixture.release
	sev.digest_named_by_owner with input as _changed({"digest_source": "registered"})
	not sev.digest_named_by_owner with input as _changed({"digest_source": "hint"})
}
