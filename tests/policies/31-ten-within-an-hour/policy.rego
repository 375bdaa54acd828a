# A rate, besides any limit.
package release.case

import data.keyward.limit

default allow := false

allow if limit.fewer_within_hour(10)

deny contains sprintf("%d releases within the last hour", [input.releases.last_hour]) if input.releases.last_hour >= 10
