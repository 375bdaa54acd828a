# Hosts of one network, by prefix.
package release.case

default allow := false

allow if startswith(input.host.address, "192.0.2.")
