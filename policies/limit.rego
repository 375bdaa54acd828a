# METADATA
# title: How often secrets were released
# description: |
#   Conditions on the counts in `input.releases`. For a limit that is exact under concurrency define `release_limit`
#   in the policy: the store enforces that one. These are for rates, and for what a number can't say.
#
#     import data.keyward.limit
#
#     allow if limit.fewer_within_hour(10)
# schemas:
#   - input: schema["policy-input.schema"]
package keyward.limit

# METADATA
# title: Fewer releases than this within the last hour
# description: A bound that is no number never holds.
# custom:
#   example: 'limit.fewer_within_hour(10)'
fewer_within_hour(most) if {
	is_number(most)
	input.releases.last_hour < most
}

# METADATA
# title: Fewer releases than this within the last day
# description: A bound that is no number never holds.
# custom:
#   example: 'limit.fewer_within_day(50)'
fewer_within_day(most) if {
	is_number(most)
	input.releases.last_day < most
}

# METADATA
# title: Fewer releases than this in all
# description: A bound that is no number never holds.
# custom:
#   example: 'limit.fewer_in_all(1000)'
fewer_in_all(most) if {
	is_number(most)
	input.releases.total < most
}
