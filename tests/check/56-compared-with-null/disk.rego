package release.disk

import data.keyward.platform

default allow := false

allow if {
	input.attested.policy_bits.no_debug == true
	platform.host_in({"node-7"})
	input.attested.image.vcpus <= 4
}
