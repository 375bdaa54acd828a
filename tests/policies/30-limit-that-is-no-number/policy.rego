# A limit that someone wrote in quotes denies.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_debug

release_limit := data.limit
