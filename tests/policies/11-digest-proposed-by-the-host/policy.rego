# A digest that only the host proposed is not enough.
package release.case

import data.keyward.sev

default allow := false

allow if sev.digest_named_by_owner

deny contains "only the host proposed this digest" if input.attested.digest_source == "hint"
