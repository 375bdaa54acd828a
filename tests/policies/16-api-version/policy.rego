# Firmware with API 1.55 or later.
package release.case

import data.keyward.sev

default allow := false

allow if sev.min_api_version(1, 55)
