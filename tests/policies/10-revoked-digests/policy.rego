# All images of the workload but the recalled ones.
package release.case

import data.keyward.sev

default allow := false

allow if {
	sev.digest_named_by_owner
	is_string(input.attested.launch_digest)
	not input.attested.launch_digest in data.revoked
}

deny contains sprintf("%s was recalled: %s", [input.attested.launch_digest, why]) if {
	why := data.why[input.attested.launch_digest]
}
