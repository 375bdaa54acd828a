# METADATA
# title: How many vCPUs the guest has
# description: |
#   Under SEV-ES the count is proved when the launch digest was computed for it; under plain SEV nothing proves it and
#   a host can merely claim it. The names say which of the two is asked.
#
#     import data.keyward.vcpus
#
#     allow if vcpus.vcpus_proved_at_most(8)
# schemas:
#   - input: schema["policy-input.schema"]
package keyward.vcpus

# METADATA
# title: The proved count is at most this
# description: "Never holds where the count is not proved."
# custom:
#   example: 'vcpus.vcpus_proved_at_most(8)'
vcpus_proved_at_most(most) if {
	is_number(most)
	is_number(input.attested.image.vcpus)
	input.attested.image.vcpus <= most
}

# METADATA
# title: The proved count is exactly this
# description: "Never holds where the count is not proved."
# custom:
#   example: 'vcpus.vcpus_proved(4)'
vcpus_proved(count_wanted) if {
	is_number(count_wanted)
	input.attested.image.vcpus == count_wanted
}

# METADATA
# title: The claimed count is at most this
# description: |
#   The host says so and nothing proves it. Never holds where the host is silent.
# custom:
#   example: 'vcpus.vcpus_claimed_at_most(8)'
vcpus_claimed_at_most(most) if {
	is_number(most)
	is_number(input.claimed.cpu_count)
	input.claimed.cpu_count <= most
}

# METADATA
# title: The claimed count is exactly this
# description: "The host says so and nothing proves it."
# custom:
#   example: 'vcpus.vcpus_claimed(4)'
vcpus_claimed(count_wanted) if {
	is_number(count_wanted)
	input.claimed.cpu_count == count_wanted
}
