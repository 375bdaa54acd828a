"""A client as simple-kbs's are: stubs that protoc made, a guest on a software PSP, and nothing of the server's code."""

import base64
import json
import struct
import subprocess
import sys
import uuid

import grpc
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import keybroker_pb2 as kb
import keybroker_pb2_grpc

target, keyward, platform, chain_file, firmware, public_file = sys.argv[1:]
stub = keybroker_pb2_grpc.KeyBrokerServiceStub(grpc.insecure_channel(target))
chain = open(chain_file, "rb").read()
guests = 0

OFFLINE = "e6f5a162-d67f-4750-a67c-5d065f2a9910"
ONLINE = "1ee27366-0c87-43a6-af48-28543eaf7cb0"


def b64(data):
    return base64.b64encode(data).decode()


def psp(*arguments, given=None):
    run = subprocess.run([keyward, "psp", *arguments], input=given, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def details(guid, form, kind, name):
    return kb.RequestDetails(Guid=guid, Format=form, SecretType=kind, Id=name)


class Guest:
    """Started with what GetBundle answered, and measured."""

    def __init__(self):
        global guests
        guests += 1
        self.file = f"guest-{guests}"
        bundle = stub.GetBundle(kb.BundleRequest(CertificateChain=b64(chain), Policy=3), timeout=10)
        self.launch = bundle.LaunchId
        reply = {
            "id": bundle.LaunchId,
            "session": bundle.LaunchBlob,
            "owner-cert": bundle.GuestOwnerPublicKey,
            "policy": 3,
            "expires-at": "2100-01-01T00:00:00Z",
        }
        psp("launch-start", platform, self.file, "--reply", "-", given=json.dumps(reply))
        self.measured = json.loads(psp("measure", self.file, "--firmware", firmware, "--scheme", "amd-sev"))

    def request(self, *requests, **changed):
        fields = {
            "LaunchMeasurement": self.measured["measurement"],
            "LaunchId": self.launch,
            "Policy": 3,
            "ApiMajor": self.measured["api-major"],
            "ApiMinor": self.measured["api-minor"],
            "BuildId": self.measured["build-id"],
            "FwDigest": b64(bytes(32)),
            "LaunchDescription": "a pod",
            "SecretRequests": requests,
        }
        return kb.SecretRequest(**{**fields, **changed})

    def secrets(self, answer):
        """The guest's table: GUID to bytes."""
        reply = {
            "secret-header": answer.LaunchSecretHeader,
            "secret-payload": answer.LaunchSecretData,
            "decision": str(uuid.UUID(int=0)),
        }
        table = self.file + ".table"
        psp("secret", self.file, "--reply", "-", "--out", table, given=json.dumps(reply))
        data = open(table, "rb").read()
        guid, length = data[:16], struct.unpack("<I", data[16:20])[0]
        assert uuid.UUID(bytes_le=guid) == uuid.UUID("1e74f542-71dd-4d66-963e-ef4287ff173b")
        entries, rest = {}, data[20:length]
        while rest:
            guid, length = uuid.UUID(bytes_le=rest[:16]), struct.unpack("<I", rest[16:20])[0]
            entries[str(guid)] = rest[20:length]
            rest = rest[length:]
        return entries


def refused(call, request, code=grpc.StatusCode.PERMISSION_DENIED, exactly="denied"):
    try:
        call(request, timeout=10)
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert exactly is None or error.details() == exactly, error
        return error.details()
    raise AssertionError(f"answered: {request}")


def check_report(data):
    report = json.loads(data)
    public = serialization.load_pem_public_key(open(public_file, "rb").read())
    signature = base64.b64decode(report["signature"])
    public.verify(signature, report["connection"].encode(), ec.ECDSA(hashes.SHA256()))
    facts = json.loads(report["connection"])
    assert facts["policy"] == 3 and facts["launch_description"] == "a pod", facts


def at(number):
    return str(uuid.UUID(int=number + (1 << 100)))


# All five types in one table.
guest = Guest()
request = guest.request(
    details(at(1), "binary", "key", "key_id1"),
    details(at(2), "json", "key", "key_id2"),
    details(OFFLINE, "json", "bundle", "KEYSET-1"),
    details(at(4), "json", "report", "reports"),
    details(ONLINE, "JSON", "connection", ""),
    details(at(6), "binary", "resource", "motd"),
)
refused(stub.GetSecret, guest.request(*request.SecretRequests, Policy=0))
refused(stub.GetSecret, guest.request(*request.SecretRequests, LaunchMeasurement=b64(bytes(48))))
answer = stub.GetSecret(request, timeout=10)
entries = guest.secrets(answer)
assert entries[at(1)] == b"first key"
assert json.loads(entries[at(2)]) == {"id": "key_id2", "payload": "AP8H"}
# As Confidential Containers' offline key broker client reads it.
assert json.loads(entries[OFFLINE]) == {"key_id1": "Zmlyc3Qga2V5", "key_id2": "AP8H"}
check_report(entries[at(4)])
assert entries[at(6)] == b"a file\n"
assert stub.GetSecret(request, timeout=10) == answer, "the same request is answered as it was"

# Over the connection, as the online key broker client reads it.
connection = json.loads(entries[ONLINE])
assert sorted(connection) == ["client_id", "key"]
key = base64.b64decode(connection["key"])
wanted = [
    details(at(10), "binary", "key", "key_id1"),
    details(at(11), "json", "bundle", "KEYSET-1"),
    details(at(12), "json", "report", "reports"),
    details(at(13), "binary", "resource", "motd"),
]


def online(*requests):
    answer = stub.GetOnlineSecret(
        kb.OnlineSecretRequest(ClientId=connection["client_id"], SecretRequests=requests), timeout=10
    )
    plain = AESGCM(key).decrypt(base64.b64decode(answer.IV), base64.b64decode(answer.Payload), None)
    (count,), plain = struct.unpack("<Q", plain[:8]), plain[8:]
    values = {}
    for _ in range(count):
        pair = []
        for _ in range(2):
            (length,) = struct.unpack("<Q", plain[:8])
            pair.append(plain[8 : 8 + length])
            plain = plain[8 + length :]
        values[pair[0].decode()] = pair[1]
    assert not plain
    return values


values = online(*wanted)
assert values[at(10)] == b"first key"
assert json.loads(values[at(11)]) == {"key_id1": "Zmlyc3Qga2V5", "key_id2": "AP8H"}
check_report(values[at(12)])
assert values[at(13)] == b"a file\n"
assert online(wanted[0]) == {at(10): b"first key"}

# What a measured guest may not have is denied with a decision; the rest says nothing at all.
other = Guest()
told = refused(stub.GetSecret, other.request(details(at(1), "json", "bundle", "KEYSET-2")), exactly=None)
assert told.startswith("denied (decision "), told
flipped = bytes([*chain[:600], chain[600] ^ 1, *chain[601:]])
refused(stub.GetBundle, kb.BundleRequest(CertificateChain=b64(flipped), Policy=3))
refused(stub.GetBundle, kb.BundleRequest(CertificateChain="*", Policy=3))
refused(stub.GetBundle, kb.BundleRequest(CertificateChain=b64(chain), Policy=0))
refused(stub.GetSecret, kb.SecretRequest())
refused(stub.GetOnlineSecret, kb.OnlineSecretRequest(ClientId=str(uuid.UUID(int=0))))

# The connection takes four requests, and then it is as if it had never been.
online(wanted[0])
online(wanted[0])
refused(
    stub.GetOnlineSecret,
    kb.OnlineSecretRequest(ClientId=connection["client_id"], SecretRequests=[wanted[0]]),
)
print("a generated Python client gets all five types and an online answer, and what is refused says nothing")
