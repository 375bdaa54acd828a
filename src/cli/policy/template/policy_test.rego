package @PACKAGE@_test

import data.@PACKAGE@ as policy

# Values of the tests' own: they hold whatever reference/data.yaml says.
reference := {
	"operators": ["a1"],
	"launch_digests": ["c2c0"],
	"min_build": 8,
	"max_releases": 3,
}

# A guest as it should be. The whole document is in Keyward's schemas/policy-input.schema.json.
good := {
	"platform": {"fingerprints": {"oca": "a1"}},
	"attested": {
		"policy_bits": {"no_debug": true, "no_key_sharing": true},
		"build_id": 8,
		"launch_digest": "c2c0",
	},
}

with_attested(change) := object.union(good, {"attested": change})

foreign := object.union(good, {"platform": {"fingerprints": {"oca": "b2"}}})

test_a_good_guest_is_allowed if policy.allow with input as good with data.reference as reference

test_another_image_is_not if {
	changed := with_attested({"launch_digest": "beef"})
	not policy.allow with input as changed with data.reference as reference
}

test_another_operator_s_platform_is_not if {
	not policy.allow with input as foreign with data.reference as reference
}

test_a_guest_that_can_be_debugged_is_not if {
	changed := with_attested({"policy_bits": {"no_debug": false}})
	not policy.allow with input as changed with data.reference as reference
}

test_a_guest_that_shares_its_key_is_not if {
	changed := with_attested({"policy_bits": {"no_key_sharing": false}})
	not policy.allow with input as changed with data.reference as reference
}

test_old_firmware_is_denied_and_told_so if {
	old := with_attested({"build_id": 7})
	not policy.allow with input as old with data.reference as reference
	told := policy.deny with input as old with data.reference as reference
	told == {"firmware build 7 is older than 8, the oldest that we trust"}
}

test_what_is_not_known_does_not_pass if {
	unknown := with_attested({"build_id": null, "launch_digest": null})
	not policy.allow with input as unknown with data.reference as reference
	told := policy.deny with input as unknown with data.reference as reference
	count(told) == 0
}

test_our_platforms_may_launch if policy.allow_launch with input as good with data.reference as reference

test_others_may_not if {
	not policy.allow_launch with input as foreign with data.reference as reference
}

test_the_limit_is_the_reference_s if {
	limit := policy.release_limit with data.reference as reference
	limit == 3
}
