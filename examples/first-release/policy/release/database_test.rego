package release.database_test

import data.release.database

# A guest as it should be. The whole document is in schemas/policy-input.schema.json.
good := {
	"attested": {
		"digest_source": "image",
		"policy_bits": {"no_debug": true, "no_key_sharing": true, "es": true},
		"api_major": 1,
		"api_minor": 55,
		"build_id": 8,
		"image": {"vcpus": 4},
	},
	"claimed": {"cpu_count": null},
	"host": {"address": "127.0.0.1"},
}

with_attested(change) := object.union(good, {"attested": change})

test_a_good_guest_is_allowed if database.allow with input as good

test_old_firmware_is_not if {
	not database.allow with input as with_attested({"build_id": 7})
	not database.allow with input as with_attested({"api_major": 1, "api_minor": 49})
}

test_old_firmware_is_told_so if {
	told := database.deny with input as with_attested({"build_id": 7})
	told == {"firmware build 7 is older than 8, the oldest that we trust"}
	count(database.deny) == 0 with input as good
	count(database.deny) == 0 with input as with_attested({"build_id": null})
}

test_a_guest_that_can_be_debugged_is_not if {
	not database.allow with input as with_attested({"policy_bits": {"no_debug": false}})
}

test_more_vcpus_than_reviewed_are_not if {
	not database.allow with input as with_attested({"image": {"vcpus": 5}})
}

test_what_is_not_known_does_not_pass if {
	not database.allow with input as with_attested({"build_id": null})
	not database.allow with input as with_attested({"image": {"vcpus": null}})
}

test_a_digest_that_only_the_host_proposed_is_not_enough if {
	not database.allow with input as with_attested({"digest_source": "hint"})
}

test_another_host_is_not if {
	not database.allow with input as object.union(good, {"host": {"address": "192.0.2.1"}})
}

test_two_releases if database.release_limit == 2
