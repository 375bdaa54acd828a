# METADATA
# title: A complete input for the tests of this folder
package keyward.fixture

release := {
	"version": 1,
	"phase": "release",
	"time": "2026-01-02T03:04:05Z",
	"scheme": "amd-sev-es",
	"owner": "example",
	"workload": {"uuid": "6e16ff6e-3d2c-4b4b-8f3f-7a35c1d1f8a4", "name": "database", "policy": 7, "vcpus": 2},
	"secrets": ["database/disk"],
	"secret": null,
	"platform": {
		"product": "milan",
		"root": "amd",
		"chip_id": "11",
		"api_major": 1,
		"api_minor": 55,
		"fingerprints": {"ark": "a1", "ask": "a2", "cek": "a3", "oca": "a4", "pek": "a5", "pdh": "a6"},
	},
	"attested": {
		"digest_source": "image",
		"policy": 7,
		"policy_bits": {
			"no_debug": true,
			"no_key_sharing": true,
			"es": true,
			"no_send": false,
			"domain": false,
			"sev": false,
			"min_api_major": 0,
			"min_api_minor": 0,
		},
		"api_major": 1,
		"api_minor": 55,
		"build_id": 21,
		"launch_digest": "c2c0",
		"image": {"name": "database", "vcpus": 2, "vcpu_type": "EPYC-Milan", "vmsa": "init2"},
	},
	"claimed": {
		"cpu_count": 2,
		"cpu_id": null,
		"firmware_hash": null,
		"kernel_hash": null,
		"initrd_hash": null,
		"cmdline_hash": null,
		"description": null,
	},
	"host": {"address": "192.0.2.10", "identity": null},
	"releases": {"total": 3, "last_hour": 1, "last_day": 2},
}

launch := object.union(release, {"phase": "launch", "attested": {
	"digest_source": null,
	"policy": null,
	"policy_bits": {
		"no_debug": null,
		"no_key_sharing": null,
		"es": null,
		"no_send": null,
		"domain": null,
		"sev": null,
		"min_api_major": null,
		"min_api_minor": null,
	},
	"api_major": null,
	"api_minor": null,
	"build_id": null,
	"launch_digest": null,
	"image": {"name": null, "vcpus": null, "vcpu_type": null, "vmsa": null},
}})

registration := {
	"launch_digests": [],
	"images": true,
	"names_digests": true,
	"image_digests": ["c2c0"],
	"oca": "a4",
	"vcpus": 2,
	"max_releases": 5,
	"products": ["milan"],
	"danger_weak_policy": false,
	"require_host_identity": false,
	"names_hosts": false,
	"hosts": [],
}
