# Only images on a reviewed list.
package release.case

import data.keyward.sev

default allow := false

allow if sev.launch_digest_in(data.approved)
