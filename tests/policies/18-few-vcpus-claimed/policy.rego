# Under plain SEV a host can only claim it, and silence does not pass.
package release.case

import data.keyward.vcpus

default allow := false

allow if vcpus.vcpus_claimed_at_most(4)

deny contains sprintf("%v vCPUs (claimed, not proved)", [input.claimed.cpu_count]) if {
	is_number(input.claimed.cpu_count)
	input.claimed.cpu_count > 4
}
