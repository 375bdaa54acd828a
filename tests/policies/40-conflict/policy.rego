# Two values for one rule.
package release.case

import data.keyward.sev

allow if sev.no_debug

allow := false if input.owner == "example"
