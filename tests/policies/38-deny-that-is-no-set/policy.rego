# Messages from data in an array deny, whatever is in it.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_debug

deny := data.messages
