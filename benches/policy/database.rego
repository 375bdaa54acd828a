# The policy that the benchmark asks: twelve conditions and fifty launch digests, of the size that a security team
# writes for one service. What it says is plausible, and allows the example input.
package release.database

import data.approved

# Until every condition holds, no.
default allow := false

allow if {
	platform_is_ours
	firmware_is_recent
	guest_is_protected
	image_is_reviewed
	request_is_expected
	not too_fast
}

# 1 and 2: the chip is one that we bought, and its operator is one that we pay.
platform_is_ours if {
	input.platform.root == "amd"
	input.platform.chip_id in approved.chips
	input.platform.fingerprints.oca in approved.operators
}

# 3 and 4: neither an old API nor a build that is known to be bad.
firmware_is_recent if {
	least := approved.least[input.platform.product]
	at_least(input.attested.api_major, input.attested.api_minor, least)
	input.attested.build_id in approved.builds[input.platform.product]
}

at_least(major, _, [wanted, _]) if major > wanted

at_least(major, minor, [wanted, least]) if {
	major == wanted
	minor >= least
}

# 5 to 7: no debugging, no shared keys, encrypted registers.
guest_is_protected if {
	input.attested.policy_bits.no_debug == true
	input.attested.policy_bits.no_key_sharing == true
	input.attested.policy_bits.es == true
}

# 8 and 9: one of the reviewed images, with as many vCPUs as were reviewed.
image_is_reviewed if {
	some digest in digests
	digest == input.attested.launch_digest
	input.attested.image.vcpus == input.workload.vcpus
}

# 10 and 11: the secrets of this service, asked for by a host of ours.
request_is_expected if {
	every name in input.secrets {
		startswith(name, "database/")
	}
	host_is_known
}

host_is_known if {
	some prefix in approved.hosts
	startswith(input.host.address, trim_suffix(prefix, "0/24"))
}

# 12: a machine that is started again and again is broken, or probed.
too_fast if input.releases.last_hour >= 20

deny contains message if {
	input.attested.policy_bits.no_send == false
	input.workload.name == "vault"
	message := sprintf("workload %s must not be migrated", [input.workload.name])
}

deny contains message if {
	some name in input.secrets
	contains(name, "..")
	message := sprintf("%s is no name of a secret", [name])
}

release_limit := 500 if {
	input.secret == null
} else := 50

# Reviewed images: one line each, with the release that they belong to.
digests := {
	"cc88f6acf10ba9e488201201e9067fd63fc23aeb64fcf686578e6d900fceeef6", # database 2026.01
	"bdd295acb9859817b9da544524ed3525a64f61bf5edb16deb0c28b6ae63d378b", # database 2026.02
	"32708aa33e13cb8601678e3ffe6f522035ce3c0b8278e440299e72b1cfdcd0b9", # database 2026.03
	"7c82785f9109004556345ef2b80af58081377245dd2b234c1f21d08589110faa", # database 2026.04
	"c3a248be846e8be77af8c6abf2a0b17cbcfdcb0ac579faa9822b3f921cd5db8a", # database 2026.05
	"cdcef0e44108d0e79f8ecdeb14831073cdd9781319be467a9be211bc5912d555", # database 2026.06
	"2cc374bf58379be0dd6a084579e0e5435ecc23ac7b9b6a53ea4305c9c4408965", # database 2026.07
	"4c4b37f5932bffb31aee9c4a57b8f5aa48bd67c0d76b108789e413ac97e20582", # database 2026.08
	"85dfdac2951fbea55f7b1cfc5b6f577787c0f05cd3acf4fa2184dfb7cb3978cf", # database 2026.09
	"62c2a1d6ebbdbc9071c1d91c820678fce59e35add37e2e364f5f04028510cbc9", # database 2026.10
	"2b3f6ee656b8d0253577d431536a5d1f49e454a4370dd6b4f4e1f628743e9e08", # database 2026.11
	"259c6ca5eae53c39b07c4a11ad491ae0f83d6ea02edb56c5661fab983d957d63", # database 2026.12
	"29eb1e5b947eab207c468a2052cbbe87c744a9d319c481ef56ff63e82eb2d619", # database 2026.13
	"9270b50b55c2fc792ceef47742b2a7917ffe65f4ac32d4bd74f2095f411ac718", # database 2026.14
	"98c5c6d79f1a8153b1e4b9c6cb3b278d87422117b07b4e333922bf0a16065090", # database 2026.15
	"22923f9cdedb0efb985fb40995ddfbc263ae7f278d228d3bb8955aec0fb7b7a0", # database 2026.16
	"25cb4beda105525c13256742d1a3ffa1769527ff98d1c80969aa785332aedf35", # database 2026.17
	"a232a35d4e94f545ef6712e5f5b0f898f0bffb0bd47f4e05d7041428d4a5e1ee", # database 2026.18
	"3d8da3d5c87cf65b91059c76e674de52b9b82c186fe0f24d1d7d35b53d006312", # database 2026.19
	"291d3e19e5210f641f306af55c9a27ee88314b3ed117921f4eaf6a52b94dc0f8", # database 2026.20
	"c81c1c28e5f4079289eb98e46ab86d380e747b04ef84b25b2ed41b2ee19db3ba", # database 2026.21
	"426385350f713067129f21ebe66bea445ed425f61caf935522f48e985907a5c6", # database 2026.22
	"65d90348c888beac059a52c91612c02d356dde941dbe4073a5621f593ef1a7ae", # database 2026.23
	"416ee9906870d8778ca97df8cdaa8dacd2214e1d3e063232977da1952445d93e", # database 2026.24
	"8720259c4b55835ea921b48fcd40c326efed9bf8e1e7e3c46a49ac56474b8289", # database 2026.25
	"0530d652ee4218ddce12ba3c609b5e06a2e4192931de1e1574b42a7ed008d512", # database 2026.26
	"b70c5993d2282550aaae5106d1bb9acb45f2a534b7f2e1548e00b27013f43b8f", # database 2026.27
	"100b149336b1ffcef15694403e6cbecd06f59e3ea548cab0f760c55a92fbf42b", # database 2026.28
	"888b521d5c32248b62987436d57e2dbcd5619ccf407c4ff3d8b6fa28acda3045", # database 2026.29
	"2b9c0bf63b75338177a4be632c969f6c1c818b5c867843f6f2d8a717d6f82f8b", # database 2026.30
	"10c001420d21f8a1d8a56eb8e76c0440797bef896e3a71cfd6b50eee107e6cae", # database 2026.31
	"9fb49d9776c85d41d57abdf9c092e10e0300ef1bdb71035b82e001f2fa6651c9", # database 2026.32
	"ecb17f0b95ae068da766def35e3e2bcdfb0aebbac692e490b195d0db760a7f95", # database 2026.33
	"0ee1f507aa661da961d865e46a1f5d8b2845edf1710ad8299dbd6282a96ca22a", # database 2026.34
	"5ec746e8e4bfcdc4f3105158518d91b35848563565582ae3b7cd1537189b00a2", # database 2026.35
	"b16e912df1fc0822e3e7be69349b350b505cd29c12332520db7da9a4af631e87", # database 2026.36
	"6018989dc5898c3a969a279cfab9700b14e3d56402ffe480f1e9dd9d0ec6a559", # database 2026.37
	"10b748eaf30025781893263d54dcc21988a3af4c53deebc88a21b23781366590", # database 2026.38
	"797cfaf3560999d9e9c61adacce5a61fc513d9a9c943091045ae90ff4ff8ad7e", # database 2026.39
	"e744944e2411629f11df7ef5752726eedd7e623cfb06d0779a07ab47e1fd35a0", # database 2026.40
	"92640ec263fe4d6581c1da91c13cc4b762fac3f943fcca235ef3d1fe9efe83ff", # database 2026.41
	"0727786781e848ff4265f719f7d4d54fee5de5a5c5642658aa24b9b9a445a942", # database 2026.42
	"64a882d7b07fa552458299b5b17077a1c5a3ceaae5742e3146fc70c1a77e1482", # database 2026.43
	"afe30a5c5255bda3149578865ecc89b1a6e9e98f785ca7cd94cbc528b865eef8", # database 2026.44
	"bd52bbf8bf2fc21e87ad10ac3f5755f90d5c27942ab929813893d785cf042a94", # database 2026.45
	"843bdd43536591c9e0a426f8d5c35cf24bddb5f1fd93716262f5871f25747bbe", # database 2026.46
	"080ff09d4638676b88b9183a97b5068c296bcda9d75739dae04ef04fb84ebd08", # database 2026.47
	"39665f183b0595b5d7a013b5285630d0e47b35b2772ccd42c57b2fba1f7ed8ef", # database 2026.48
	"57b254bc14e46e06a751f653c6449d93e562019c6efb59d4e68cc9a66db75bee", # database 2026.49
	"c2c0ef40265a7de7176b00dd5e325ad070264a28db825cbeca204c7655092d1d", # database 2026.50
}
