package keyward.platform_test

import data.keyward.fixture
import data.keyward.platform

_unknown := object.union(fixture.release, {"platform": {"product": null, "chip_id": null, "root": "lab"}})

test_product if {
	platform.product_in({"milan", "genoa"}) with input as fixture.release
	platform.product_in(["Milan"]) with input as fixture.release
	not platform.product_in({"rome"}) with input as fixture.release
}

test_null_is_in_no_list if {
	not platform.product_in([null]) with input as _unknown
	not platform.chip_in([null]) with input as _unknown
	not platform.host_in([null]) with input as fixture.release
}

test_an_empty_list_never_holds if {
	not platform.product_in([]) with input as fixture.release
	not platform.oca_in(set()) with input as fixture.release
	not platform.cek_in([]) with input as fixture.release
	not platform.chip_in([]) with input as fixture.release
	not platform.host_address_in([]) with input as fixture.release
	not platform.host_in([]) with input as fixture.release
}

test_root if {
	platform.amd_root with input as fixture.release
	not platform.amd_root with input as _unknown
}

test_certificates if {
	platform.oca_in(["a4"]) with input as fixture.release
	platform.cek_in({"A3"}) with input as fixture.release
	not platform.oca_in(["a3"]) with input as fixture.release
	not platform.cek_in(["a4"]) with input as fixture.release
}

test_chip_and_host if {
	platform.chip_in(["11"]) with input as fixture.release
	platform.host_address_in({"192.0.2.10"}) with input as fixture.release
	not platform.host_address_in({"192.0.2.11"}) with input as fixture.release
}

test_host_identity if {
	named := object.union(fixture.release, {"host": {"identity": "token/node-7"}})
	platform.host_identified with input as named
	not platform.host_identified with input as fixture.release
	platform.host_in({"token/node-7"}) with input as named
	platform.host_in(["token/node-8", "token/node-7"]) with input as named
	not platform.host_in({"token/node-8"}) with input as named
	not platform.host_in({"token/Node-7"}) with input as named
	not platform.host_in({"node-7"}) with input as named
}

test_it_holds_at_launch_too if {
	platform.product_in({"milan"}) with input as fixture.launch
	platform.oca_in({"a4"}) with input as fixture.launch
}
