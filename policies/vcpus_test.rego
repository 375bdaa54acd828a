package keyward.vcpus_test

import data.keyward.fixture
import data.keyward.vcpus

_unproved := object.union(fixture.release, {"attested": {"image": {"vcpus": null}}})

_silent := object.union(fixture.release, {"claimed": {"cpu_count": null}})

test_proved if {
	vcpus.vcpus_proved_at_most(2) with input as fixture.release
	vcpus.vcpus_proved(2) with input as fixture.release
	not vcpus.vcpus_proved_at_most(1) with input as fixture.release
	not vcpus.vcpus_proved(3) with input as fixture.release
}

test_null_is_not_a_small_number if {
	not vcpus.vcpus_proved_at_most(4) with input as _unproved
	not vcpus.vcpus_proved(null) with input as _unproved
	not vcpus.vcpus_claimed_at_most(4) with input as _silent
	not vcpus.vcpus_claimed(null) with input as _silent
}

test_a_bound_that_is_no_number_never_holds if {
	not vcpus.vcpus_proved_at_most("9") with input as fixture.release
	not vcpus.vcpus_claimed_at_most("9") with input as fixture.release
	not vcpus.vcpus_claimed_at_most(null) with input as fixture.release
}

test_claimed if {
	vcpus.vcpus_claimed_at_most(2) with input as fixture.release
	vcpus.vcpus_claimed(2) with input as fixture.release
	not vcpus.vcpus_claimed_at_most(1) with input as fixture.release
	not vcpus.vcpus_claimed(1) with input as fixture.release
}

test_a_claim_is_no_proof if {
	not vcpus.vcpus_proved_at_most(4) with input as _unproved
	vcpus.vcpus_claimed_at_most(4) with input as _unproved
}
