package release.disk

import data.keyward.platform
import data.keyward.sev

default allow := false

allow if {
	sev.no_debug
	platform.host_in({"node-7"})
}
