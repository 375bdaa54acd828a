# A guest that can not be sent elsewhere.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_send
