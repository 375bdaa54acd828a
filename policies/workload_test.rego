package keyward.workload_test

import data.keyward.fixture
import data.keyward.workload

_release(change, registration) := object.union(
	object.union(fixture.release, change),
	{"registration": object.union(fixture.registration, registration)},
)

_launch(registration) := object.union(
	fixture.launch,
	{"registration": object.union(fixture.registration, registration)},
)

test_what_is_named_is_allowed if {
	workload.allow with input as _release({}, {})
	workload.deny == set() with input as _release({}, {})
	workload.allow_launch with input as _launch({})
}

test_phases_do_not_mix if {
	not workload.allow with input as _launch({})
	not workload.allow_launch with input as _release({}, {})
}

test_without_a_registration_nothing_is_allowed if {
	not workload.allow with input as fixture.release
	not workload.allow_launch with input as fixture.launch
}

test_another_digest_is_denied_with_its_value if {
	messages := workload.deny with input as _release({"attested": {"launch_digest": "8f76"}}, {})
	messages == {"launch digest 8f76 is not one that the workload names"}
}

test_a_registered_digest_is_enough if {
	change := {"attested": {"launch_digest": "8f76", "digest_source": "registered"}}
	workload.allow with input as _release(change, {"launch_digests": ["8f76"]})
}

test_empty_lists_name_nothing if {
	not workload.allow with input as _release({}, {"image_digests": []})
	not workload.allow with input as _release({}, {"image_digests": [], "images": false})
}

test_a_workload_that_names_nothing_leaves_the_digest_to_others if {
	silent := {"image_digests": [], "images": false, "names_digests": false}
	workload.allow with input as _release({"attested": {"digest_source": "hint"}}, silent)
}

test_another_operator_is_denied_in_both_phases if {
	messages := workload.deny with input as _release({}, {"oca": "b4"})
	messages == {"OCA fingerprint a4 is not the pinned b4"}
	at_launch := workload.deny_launch with input as _launch({"oca": "b4"})
	at_launch == messages
	workload.allow with input as _release({}, {"oca": null})
}

test_proved_vcpus if {
	messages := workload.deny with input as _release({}, {"vcpus": 4})
	messages == {"2 vCPUs are proved, expected the registered 4"}
	workload.allow with input as _release({"claimed": {"cpu_count": 64}}, {})
}

test_claimed_vcpus if {
	plain := {"scheme": "amd-sev", "attested": {"policy_bits": {"es": false}, "image": {"vcpus": null}}}
	workload.allow with input as _release(plain, {})
	more := object.union(plain, {"claimed": {"cpu_count": 4}})
	messages := workload.deny with input as _release(more, {})
	messages == {"4 vCPUs (claimed, not proved), expected the registered 2"}
	silent := object.union(plain, {"claimed": {"cpu_count": null}})
	silence := workload.deny with input as _release(silent, {})
	silence == {"null vCPUs (claimed, not proved), expected the registered 2"}
	workload.allow with input as _release(silent, {"vcpus": null})
}

test_a_registered_es_digest_covers_the_vcpus if {
	change := {"attested": {"image": {"vcpus": null}, "digest_source": "registered"}, "claimed": {"cpu_count": null}}
	workload.allow with input as _release(change, {"launch_digests": ["c2c0"]})
	not workload.allow with input as _release(change, {})
}

test_products if {
	messages := workload.deny with input as _release({}, {"products": ["turin"]})
	messages == {"product milan is not one of the registered turin"}
	not workload.allow with input as _release({"platform": {"product": null}}, {})
	workload.allow with input as _release({"platform": {"product": null}}, {"products": []})
}

test_naples_must_be_named if {
	naples := {"platform": {"product": "naples"}}
	not workload.allow with input as _release(naples, {"products": []})
	workload.allow with input as _release(naples, {"products": ["naples"]})
}

test_weak_policies_must_be_wanted if {
	some bit in ["no_debug", "no_key_sharing"]
	weak := {"attested": {"policy_bits": {bit: false}}}
	not workload.allow with input as _release(weak, {})
	workload.allow with input as _release(weak, {"danger_weak_policy": true})
}

test_scheme_and_policy_fit if {
	not workload.allow with input as _release({"scheme": "amd-sev"}, {})
	not workload.allow with input as _release({"attested": {"policy": 0}}, {})
	workload.allow with input as _release({"workload": {"policy": null}}, {})
}

test_release_limit if {
	workload.release_limit == 5 with input as _release({}, {})
	workload.release_limit == 9007199254740992 with input as _release({}, {"max_releases": null})
	workload.release_limit == 0 with input as _release({}, {"max_releases": 0})
}

test_an_identified_host_is_required_in_both_phases if {
	wanted := {"require_host_identity": true}
	expected := {"the host did not identify itself, as the workload requires"}
	at_launch := workload.deny_launch with input as _launch(wanted)
	at_launch == expected
	at_release := workload.deny with input as _release({}, wanted)
	at_release == expected
	not workload.allow_launch with input as _launch(wanted)
	not workload.allow with input as _release({}, wanted)
	known := {"host": {"identity": "token/node-7"}}
	workload.allow with input as _release(known, wanted)
	workload.allow_launch with input as object.union(_launch(wanted), known)
}

test_only_named_hosts_may_launch_where_some_are_named if {
	known := {"host": {"identity": "token/node-7"}}
	others := {"require_host_identity": true, "names_hosts": true, "hosts": []}
	messages := workload.deny with input as _release(known, others)
	messages == {"host token/node-7 is not one that the workload names"}
	at_launch := workload.deny_launch with input as object.union(_launch(others), known)
	at_launch == messages
	workload.allow with input as _release(known, object.union(others, {"hosts": ["token/node-7"]}))
	not workload.allow with input as _release({}, others)
}
