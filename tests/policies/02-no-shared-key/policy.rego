# No other guest on the same memory key.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_key_sharing
