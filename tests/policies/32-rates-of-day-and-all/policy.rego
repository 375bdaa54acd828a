# Fifty a day, a thousand in all.
package release.case

import data.keyward.limit

default allow := false

allow if {
	limit.fewer_within_day(50)
	limit.fewer_in_all(1000)
}
