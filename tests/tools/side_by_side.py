"""The comparison itself; `side-by-side` beside it prepares the tools and runs this in a folder that is thrown away."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

KEYWARD, SEVCTL, MEASURE = (os.environ[name] for name in ("KEYWARD", "SEVCTL", "MEASURE"))
VALIDATE, FIRMWARE, VECTORS = (os.environ.get(name) for name in ("VALIDATE", "FIRMWARE", "VECTORS"))

MODELS = {
    "EPYC": (23, 1, 2),
    "EPYC-Rome": (23, 49, 0),
    "EPYC-Milan": (25, 1, 1),
    "EPYC-Genoa": (25, 17, 0),
}
VCPUS = (1, 2, 3, 16, 65)
API = ["--api-major", "1", "--api-minor", "55", "--build-id", "21"]
NONCE = bytes(range(16))
TEK, TIK = hashlib.sha256(b"tek").digest()[:16], hashlib.sha256(b"tik").digest()[:16]

compared = {}
differing = []


def run(*command, code=0):
    """Its standard output, given that it ends with this code."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if code is not None and done.returncode != code:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip() if code is not None else done.returncode


def same(what, tool, ours, theirs):
    compared[tool] = compared.get(tool, 0) + 1
    if ours != theirs:
        differing.append(f"{tool}: {what}: keyward says {ours}, it says {theirs}")


def synthetic():
    """A firmware image whose footer table has what OVMF's AmdSev build says."""

    def entry(guid, data):
        return data + (len(data) + 18).to_bytes(2, "little") + uuid.UUID(guid).bytes_le

    def words(*numbers):
        return b"".join(number.to_bytes(4, "little") for number in numbers)

    table = (
        entry("7255371f-3a3b-4b04-927b-1da6efa8d454", words(0x80CC00, 0x400))
        + entry("4c2eb361-7d9b-4cc3-8081-127c90d3d294", words(0x80C000, 0xC00))
        + entry("00f771de-1a7e-4fcb-890e-68c77e2fb44e", words(0x80B004))
    )
    length = len(table) + 18
    footer = length.to_bytes(2, "little") + uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
    end = table + footer + bytes(32)
    # Whole pages, as every firmware is: a PSP takes lengths that are a multiple of 16.
    return bytes(0xF4 for _ in range(8192 - len(end))) + end


def kernels():
    """What is booted, as the options of ours and of sev-snp-measure; the last column: what sevctl can express."""
    Path("kernel").write_bytes(b"kernel" * 1000)
    Path("initrd").write_bytes(b"initrd" * 1000)
    for line in (None, "", "console=ttyS0", "root=/dev/vda quiet ", "é \"quoted\""):
        for initrd in (None, "initrd"):
            ours, theirs = ["--kernel", "kernel"], ["--kernel", "kernel"]
            if initrd:
                ours += ["--initrd", initrd]
                theirs += ["--initrd", initrd]
            if line is not None:
                ours += ["--cmdline", line]
                theirs += ["--append", line]
            yield ours, theirs, initrd is not None and line is not None
    yield [], [], True


def digests(firmware, boot, *more):
    said = run(KEYWARD, "sev", "measure", "--firmware", firmware, *boot, *more, "-o", "json")
    return {digest["vmsa"]: digest["launch_digest"] for digest in json.loads(said)["digests"]}


def measured_by_sevctl(firmware, boot, policy, *more):
    nonce, tik = base64.b64encode(NONCE).decode(), base64.b64encode(TIK).decode()
    command = ["measurement", "build", *API, "--policy", policy, "--nonce", nonce, "--tik", tik]
    return run(SEVCTL, *command, "--firmware", firmware, *boot, *more)


def holds(measurement, firmware, boot, policy, *more):
    """Our word about a measurement: the exit code of `sev validate`."""
    command = ["sev", "validate", "--measurement", measurement, *API, "--policy", policy, "--tk", "tk.bin"]
    return run(KEYWARD, *command, "--firmware", firmware, *boot, *more, code=None)


def validated_by_libvirt(measurement, firmware, boot, policy, *more):
    command = [sys.executable, VALIDATE, "--measurement", measurement, *API, "--policy", policy, "--tk", "tk.bin"]
    return run(*command, "--firmware", firmware, *boot, *more, code=None)


def vmsas(firmware):
    for model, (family, number, stepping) in MODELS.items():
        sku = ["--family", family, "--model", number, "--stepping", stepping]
        signature = f"{family},{number},{stepping}"
        for cpu in (0, 1):
            run(SEVCTL, "vmsa", "build", "theirs", "--cpu", cpu, "--userspace", "qemu", *sku, "--firmware", firmware)
            build = ["sev", "vmsa", "build", "ours", "--cpu", cpu, "--firmware", firmware]
            run(KEYWARD, *build, "--vcpu-signature", signature, "--vmsa", "legacy")
            same(f"vmsa build {model} {cpu}", "sevctl", Path("ours").read_bytes(), Path("theirs").read_bytes())
            shown, theirs = (json.loads(run(tool, "vmsa", "show", "ours")) for tool in (SEVCTL,) * 2)
            shown = json.loads(run(KEYWARD, "sev", "vmsa", "show", "ours", "-o", "json"))
            common = sorted(set(shown) & set(theirs))
            assert len(common) > 50, common
            same(
                f"vmsa show {model} {cpu}",
                "sevctl",
                [shown[name] for name in common],
                [theirs[name] for name in common],
            )
        seves = ["--mode", "seves", "--vcpus", 2, "--vcpu-type", model, "--ovmf", firmware, "--dump-vmsa"]
        run(MEASURE, *seves)
        for cpu in (0, 1):
            build = ["sev", "vmsa", "build", "ours", "--cpu", cpu, "--firmware", firmware]
            run(KEYWARD, *build, "--vcpu-type", model, "--vmsa", "init2")
            dumped = Path(f"vmsa{cpu}.bin").read_bytes()
            same(f"dumped vmsa {model} {cpu}", "sev-snp-measure", Path("ours").read_bytes(), dumped)


def measurements(firmware):
    for ours, theirs, fits_sevctl in kernels():
        what = f"{Path(firmware).name} {' '.join(ours)}"
        digest = digests(firmware, ours, "--scheme", "amd-sev")[None]
        same(what, "sev-snp-measure", digest, run(MEASURE, "--mode", "sev", "--ovmf", firmware, *theirs))
        if fits_sevctl:
            measurement = measured_by_sevctl(firmware, ours, "0x3")
            same(what, "sevctl", holds(measurement, firmware, ours, "3"), 0)
            same(f"{what}, said to be under policy 1", "sevctl", holds(measurement, firmware, ours, "1"), 2)
            if VALIDATE:
                same(what, "virt-qemu-sev-validate", validated_by_libvirt(measurement, firmware, ours, "3"), 0)
        for model, (family, number, stepping) in MODELS.items():
            for vcpus in VCPUS:
                encrypted(what, firmware, ours, theirs, fits_sevctl, model, vcpus, (family, number, stepping))


def encrypted(what, firmware, ours, theirs, fits_sevctl, model, vcpus, sku):
    what = f"{what}, {vcpus} {model}"
    cpus = ["--vcpus", vcpus, "--vcpu-type", model]
    digest = digests(firmware, ours, "--scheme", "amd-sev-es", *cpus)
    theirs = run(MEASURE, "--mode", "seves", "--ovmf", firmware, *theirs, *cpus)
    same(what, "sev-snp-measure", digest["init2"], theirs)
    if not fits_sevctl or vcpus not in (1, 3):
        return
    for cpu in (0, 1):
        numbers = zip(("--family", "--model", "--stepping"), sku)
        numbers = [part for pair in numbers for part in pair]
        run(SEVCTL, "vmsa", "build", f"v{cpu}", "--cpu", cpu, "--userspace", "qemu", *numbers, "--firmware", firmware)
    files = ["--vmsa-cpu0", "v0", "--vmsa-cpu1", "v1"]
    measurement = measured_by_sevctl(firmware, ours, "0x7", "--num-cpus", vcpus, *files)
    same(what, "sevctl", holds(measurement, firmware, ours, "7", *cpus, "--vmsa", "legacy"), 0)
    same(f"{what}, said to be init2", "sevctl", holds(measurement, firmware, ours, "7", *cpus, "--vmsa", "init2"), 2)
    dumped = ["--vcpus", vcpus, "--vmsa-file", "v0"] + (["v1"] if vcpus > 1 else [])
    same(f"{what}, by its VMSAs", "sevctl", holds(measurement, firmware, ours, "7", *dumped), 0)
    if VALIDATE:
        family, number, stepping = sku
        numbers = ["--cpu-family", family, "--cpu-model", number, "--cpu-stepping", stepping, "--num-cpus", vcpus]
        said = validated_by_libvirt(measurement, firmware, ours, "7", *numbers)
        same(what, "virt-qemu-sev-validate", said, 0)


def sessions(firmware):
    """A launch with each tool's session and each tool's packet, on the software PSP."""
    run(KEYWARD, "psp", "new", "platform", "--bits", "2048")
    run(KEYWARD, "psp", "chain", "platform", "--out", "certs")
    secrets = {"14": b"fourteen bytes", "aligned": b"x" * 24, "binary": bytes(range(256))}
    for policy in ("3", "7"):
        trust = ["--danger-extra-root", "certs/ark.cert"]
        run(KEYWARD, "sev", "session", "certs/chain.cert", *trust, "--policy", policy, "--name", f"ours{policy}")
        run(SEVCTL, "session", "--name", f"theirs{policy}", "certs/pdh.cert", policy)
        for name in (f"ours{policy}", f"theirs{policy}"):
            guest = f"guest-{name}"
            files = ["--session-file", f"{name}_session.b64", "--dh-cert-file", f"{name}_godh.b64"]
            run(KEYWARD, "psp", "launch-start", "platform", guest, *files, "--policy", policy)
            scheme = ["--scheme", "amd-sev-es" if policy == "7" else "amd-sev"]
            cpus = ["--vcpus", "2", "--vcpu-type", "EPYC-Milan"] if policy == "7" else []
            vmsa = ["--vmsa", "legacy"] if policy == "7" else []
            image = ["--firmware", firmware, "--kernel", "kernel", "--initrd", "initrd", "--cmdline", "quiet"]
            facts = json.loads(run(KEYWARD, "psp", "measure", guest, *image, *scheme, *cpus, *vmsa))
            said = [part for key in ("measurement", "api-major", "api-minor", "build-id", "policy")
                    for part in (f"--{key}", facts[key])]
            keys = ["--tik", f"{name}_tik.bin", "--tek", f"{name}_tek.bin"]
            for kind, secret in secrets.items():
                Path("secret").write_bytes(secret)
                ours = ["--secret", "luks-key:secret"] if b"\0" not in secret else \
                    ["--secret", f"{uuid.UUID(int=77)}:secret"]
                guid = "736869e5-84f0-4973-92ec-06879ce3da0b" if b"\0" not in secret else str(uuid.UUID(int=77))
                run(KEYWARD, "sev", "secret", "wrap", *said, *keys, *image, *cpus, *vmsa, *ours,
                    "--secret-header", "h1", "--secret-payload", "p1")
                run(SEVCTL, "secret", "build", *keys, "--launch-measure-blob", facts["measurement"],
                    "--secret", f"{guid}:secret", "h2", "p2")
                wrapped = [("ours", "h1", "p1"), ("sevctl", "h2", "p2")]
                if VALIDATE:
                    sku = ["--cpu-family", 25, "--cpu-model", 1, "--cpu-stepping", 1, "--num-cpus", 2]
                    run(sys.executable, VALIDATE, *said, *keys, *image, *(sku if policy == "7" else []),
                        "--inject-secret", f"{guid}:secret", "--secret-header", "h3", "--secret-payload", "p3")
                    wrapped.append(("virt-qemu-sev-validate", "h3", "p3"))
                tables = {}
                for tool, header, payload in wrapped:
                    Path("table").unlink(missing_ok=True)
                    # libvirt's tool pads a table that is aligned already by another sixteen bytes.
                    padded = tool.startswith("virt") and kind == "aligned"
                    run(KEYWARD, "psp", "secret", guest, "--secret-header", header, "--secret-payload", payload,
                        "--out", "table")
                    tables[tool] = Path("table").read_bytes()[: -16 if padded else None]
                for tool in tables.keys() - {"ours"}:
                    same(f"{kind} secret, session {name}", tool, tables["ours"], tables[tool])


def chains():
    for name, authority in (("naples-chain.bin", 1664), ("rome-chain.bin", 3200)):
        path = Path(VECTORS, name)
        if not path.is_file():
            print(f"Not compared: the chain of a real platform, as {path} is absent.")
            continue
        whole = path.read_bytes()
        for at in (None, 30, 2084 + 30, 3 * 2084 + 30, 3 * 2084 + 1100):
            changed = bytearray(whole)
            if at is not None:
                changed[at] ^= 1
            Path("whole").write_bytes(changed)
            Path("sev").write_bytes(changed[:-authority])
            Path("ca").write_bytes(changed[-authority:])
            ours = run(KEYWARD, "sev", "chain", "whole", code=None) == 0
            theirs = run(SEVCTL, "verify", "--sev", "sev", "--ca", "ca", code=None) == 0
            same(f"{name} with byte {at} changed", "sevctl", ours, theirs)


def main():
    if VALIDATE:
        # It imports both at its head, and offline calls neither.
        for name in ("libvirt", "lxml"):
            Path(f"{name}.py").write_text("etree = None\n")
        os.environ["PYTHONPATH"] = os.getcwd()
    Path("tk.bin").write_bytes(TEK + TIK)
    Path("synthetic.fd").write_bytes(synthetic())
    firmwares = ["synthetic.fd"] + ([FIRMWARE] if FIRMWARE else [])
    for firmware in firmwares:
        vmsas(firmware)
        measurements(firmware)
    sessions(firmwares[-1])
    chains()
    for tool, count in sorted(compared.items()):
        print(f"{tool}: {count} answers compared")
    if differing:
        sys.exit("\n".join(differing))
    print("All agree.")


main()
