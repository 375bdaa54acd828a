# Exactly the builds that were reviewed.
package release.case

import data.keyward.sev

default allow := false

allow if sev.build_in({18, 21})
