package release.disk

import data.keyward.platform
import data.keyward.sev

allow := true

deny contains "debugging is on" if not sev.no_debug

deny contains "another host" if not platform.host_in({"node-7"})
