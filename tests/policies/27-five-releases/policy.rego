# The sixth waits for the owner.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_debug

release_limit := 5
