# A body that fails denies, although another holds.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_debug

allow if to_number(input.owner) == 1
