package release.disk

import data.keyward.sve

default allow := false

allow if sve.no_debug
