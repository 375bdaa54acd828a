# A value from data that is not exactly `true` does not allow.
package release.case

import data.keyward.sev

allow := data.switch if sev.no_debug
