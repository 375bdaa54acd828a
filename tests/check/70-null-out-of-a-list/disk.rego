package release.disk

import data.keyward.platform

default allow := false

allow if {
	platform.oca_in(["aa"])
	max([input.claimed.cpu_count, 1]) <= 4
	input.attested.build_id >= 8
}
