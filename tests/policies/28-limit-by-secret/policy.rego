# A backup key is released once, the others ten times.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_debug

release_limit := 1 if input.secret == "backup/key" else := 10
