package release.disk

import data.keyward.sev

default allow := false

allow if sev.no_debug

release_limit := 3
