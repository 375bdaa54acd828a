# METADATA
# title: Which platform and host it is
# description: |
#   Conditions on the platform behind the verified certificate chain, and on the host that asks. They hold in both
#   phases. Lists are arrays or sets; an empty one never holds.
#
#     import data.keyward.platform
#
#     allow_launch if {
#         platform.amd_root
#         platform.product_in({"milan", "genoa"})
#         platform.oca_in(data.our_oca)
#     }
# schemas:
#   - input: schema["policy-input.schema"]
package keyward.platform

# METADATA
# title: The chain ends in one of AMD's own roots
# description: Not in an extra root from the server's configuration.
# custom:
#   example: 'platform.amd_root'
amd_root if input.platform.root == "amd"

# METADATA
# title: The product is one of these
# description: |
#   `naples`, `rome`, `milan`, `genoa`, `turin`. Never holds under an extra root, where the product is not known.
# custom:
#   example: 'platform.product_in({"milan", "genoa"})'
product_in(products) if _among(input.platform.product, products)

# METADATA
# title: The operator's certificate authority is one of these
# description: "Fingerprints in hex."
# custom:
#   example: 'platform.oca_in(data.approved)'
oca_in(fingerprints) if _among(input.platform.fingerprints.oca, fingerprints)

# METADATA
# title: The chip's endorsement key is one of these
# description: "Fingerprints in hex: one per chip."
# custom:
#   example: 'platform.cek_in(data.approved)'
cek_in(fingerprints) if _among(input.platform.fingerprints.cek, fingerprints)

# METADATA
# title: The chip's id is one of these
# description: |
#   Only ids that AMD's service vouches for count; where there is none this never holds.
# custom:
#   example: 'platform.chip_in(data.approved)'
chip_in(ids) if _among(input.platform.chip_id, ids)

# METADATA
# title: The host's address is one of these
# description: "The address of the socket's peer."
# custom:
#   example: 'platform.host_address_in({"192.0.2.10"})'
host_address_in(addresses) if _among(input.host.address, addresses)

# METADATA
# title: The host said who it is, and proved it
# description: "By a token of role host, a client certificate or a token of an identity provider."
# custom:
#   example: 'platform.host_identified'
host_identified if is_string(input.host.identity)

# METADATA
# title: The host proved to be one of these
# description: |
#   `token/NAME`, `certificate/NAME` or `PROVIDER/SUBJECT`, letter by letter: subjects that differ in the case of a
#   letter are two. Never holds for a host that did not say who it is.
# custom:
#   example: 'platform.host_in({"token/node-7"})'
host_in(identities) if {
	is_string(input.host.identity)
	some identity in identities
	identity == input.host.identity
}

# METADATA
# title: A text is one of a list, whatever the case of its letters
# description: Null is no text, and an empty list has none.
_among(value, values) if {
	is_string(value)
	some candidate in values
	is_string(candidate)
	lower(candidate) == lower(value)
}
