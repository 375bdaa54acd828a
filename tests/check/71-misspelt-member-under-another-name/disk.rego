package release.disk

import data.keyward.platform

default allow := false

allow if {
	platform.oca_in(["aa"])
	approved(input.attested)
}

approved(attested) if attested.lauch_digest == "aa"
