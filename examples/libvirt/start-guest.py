#!/usr/bin/env python3
"""Starts a guest of libvirt's under AMD SEV, with secrets from Keyward.

The platform's certificates come from libvirt, the launch and the secrets from `keyward host`. The guest is created
paused and is resumed only when libvirt has said that the secrets are in it. Whatever fails before that destroys it.

Exit codes are those of `keyward host`: 0 it runs, 2 the server said no, 143 it was ended by SIGTERM, 1 anything else.
"""

import argparse
import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import libvirt


class Failed(Exception):
    """A step that ended the start, and the exit code that tells of it."""

    def __init__(self, why, code=1):
        super().__init__(why)
        self.code = code


def keyward(options, *arguments, given=None):
    """Runs `keyward host …`, which says on standard error what it waits for; its answer."""
    command = [options.keyward, "host", *arguments, "--timeout", options.timeout, "-o", "json"]
    for name in ("server", "token_file", "cert_file", "ca_file"):
        value = getattr(options, name)
        if value:
            command += ["--" + name.replace("_", "-"), value]
    ended = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode != 0:
        raise Failed(f"keyward host {arguments[0]} ended with {ended.returncode}", ended.returncode)
    try:
        answer = json.loads(ended.stdout)
    except ValueError as error:
        raise Failed(f"keyward host {arguments[0]} printed no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise Failed(f"keyward host {arguments[0]} printed no JSON object")
    return answer


def with_launch(domain, launch):
    """The domain's XML with the parts of this one launch."""
    root = ElementTree.fromstring(domain)
    security = root.find("launchSecurity")
    if security is None or security.get("type") != "sev":
        raise Failed("the domain has no <launchSecurity type='sev'>")
    parts = {
        "cbitpos": launch.get("cbitpos"),
        "reducedPhysBits": launch.get("reduced-phys-bits"),
        "policy": f"{launch['policy']:#x}",
        "dhCert": launch["dh-cert"],
        "session": launch["session"],
    }
    for tag, value in parts.items():
        if value is None:
            continue
        for old in security.findall(tag):
            security.remove(old)
        ElementTree.SubElement(security, tag).text = str(value)
    return ElementTree.tostring(root, encoding="unicode")


def release(options, domain, launch):
    """Sends what libvirt says was measured; injects what the server releases for it."""
    info = domain.launchSecurityInfo(0)
    arguments = ["validate", launch["id"]]
    for name in ("measurement", "api-major", "api-minor", "build-id", "policy"):
        arguments += [f"--{name}", str(info[f"sev-{name}"])]
    arguments += ["--description", f"{domain.name()} {domain.UUIDString()}"]
    for secret in options.secret:
        arguments += ["--secret", secret]
    packet = keyward(options, *arguments)
    domain.setLaunchSecurityState(
        {"sev-secret-header": packet["secret-header"], "sev-secret": packet["secret-payload"]}, 0
    )
    return packet["decision"]


def start(options):
    connection = libvirt.open(options.connect)
    with open(options.domain, encoding="utf-8") as file:
        xml = file.read()
    platform = json.dumps(connection.getSEVInfo(0))
    launch = keyward(options, "launch", "--workload", options.workload, "--capabilities", "-", given=platform)
    domain = connection.createXML(with_launch(xml, launch), libvirt.VIR_DOMAIN_START_PAUSED)
    try:
        decision = release(options, domain, launch)
        domain.resume()
    except BaseException:
        # A guest without its secrets is of no use, and one whose state nobody knows must not run.
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            print(f"start-guest: the guest could not be destroyed: {error}", file=sys.stderr)
        raise
    print(f"{domain.name()} runs, with the secrets of decision {decision}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("domain", help="the domain's XML")
    parser.add_argument("--workload", required=True, metavar="UUID")
    parser.add_argument("--secret", action="append", default=[], metavar="NAME", help="all of the workload's if not given")
    parser.add_argument("--connect", default="qemu:///system", metavar="URI", help="libvirt's URI")
    parser.add_argument("--keyward", default="keyward", metavar="PROGRAM")
    parser.add_argument("--server", metavar="URL", help="or KEYWARD_SERVER")
    parser.add_argument("--token-file", metavar="FILE", help="or KEYWARD_TOKEN_FILE")
    parser.add_argument("--cert-file", metavar="FILE")
    parser.add_argument("--ca-file", metavar="FILE")
    parser.add_argument("--timeout", default="5m", help="how long the server, or a held release, is waited for")
    options = parser.parse_args()
    # An exception, so that a guest that was started is destroyed first.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        start(options)
    except Failed as error:
        print(f"start-guest: {error}", file=sys.stderr)
        return error.code
    except KeyError as error:
        print(f"start-guest: an answer of libvirt's or of keyward's lacks {error}", file=sys.stderr)
        return 1
    except (libvirt.libvirtError, OSError, ElementTree.ParseError) as error:
        print(f"start-guest: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
