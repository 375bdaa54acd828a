package release.disk

import data.keyward.platform
import data.keyward.sev

default allow := false

allow if {
	sev.launch_digests_in(data.digests)
	platform.host_in({"node-7"})
}
