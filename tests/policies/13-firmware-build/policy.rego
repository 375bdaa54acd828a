# No build with known holes.
package release.case

import data.keyward.sev

default allow := false

allow if sev.build_at_least(data.oldest)

deny contains sprintf("firmware build %d is older than %d", [input.attested.build_id, data.oldest]) if {
	is_number(input.attested.build_id)
	input.attested.build_id < data.oldest
}
