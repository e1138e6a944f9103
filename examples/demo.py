"""Sign over gRPC, verify with the published JWK Set, rotate, and verify both tokens.

Run it with `make demo`. It starts an emulated AWS KMS and the service, each in its own process, on free loopback ports and in a
temporary directory, and stops both at the end. With a real KMS, only `[providers.aws]` changes.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import grpc
import jwt

from sealwright.v1.keys_pb2 import RotateKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest, SignJwtResponse
from sealwright.v1.signing_pb2_grpc import SigningServiceStub

ISSUER = "https://id.example.com/payments"
AUDIENCE = "https://api.example.com"
BIN = pathlib.Path(sys.executable).parent

CONFIG = """
[server]
grpc = "127.0.0.1:0"
http = "127.0.0.1:0"
admin = "127.0.0.1:0"
insecure_local = true            # plaintext on loopback; use mutual TLS in production

[timing]                         # leads of seconds, so that the demo is short; the defaults are for production
max_clock_error = "500ms"
verifier_skew = "1s"
max_staleness = "2s"
max_serve_age = "2s"

[store]
url = "sqlite:///{directory}/state.db"

[audit]
path = "{directory}/audit"

[providers.aws]
kind = "aws"
region = "eu-west-1"
endpoint_url = "{kms}"           # without this line: the real AWS KMS

[[issuers]]
name = "payments"
url = "https://id.example.com/payments"

[issuers.jwks]
max_age = "1s"
stale_if_error = "0s"

[[issuers.series]]
name = "es256"
algorithm = "ES256"
provider = "aws"
min_lead = "0s"

[[grants]]
caller = "local"
roles = ["signer", "rotator"]
issuers = ["payments"]
subjects = ["*"]
audiences = ["https://api.example.com"]
token_types = ["at+jwt"]
"""


def say(text: str) -> None:
    """Print a step."""
    print(text, flush=True)


@contextlib.contextmanager
def running(*command: str, directory: str) -> Iterator[dict[str, str]]:
    """Run a program that prints one line of JSON when it is ready, and stop it at the end of the block."""
    aws = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with open(f"{directory}/{pathlib.Path(command[0]).name}.log", "wb") as log:  # noqa: PTH123 - open reads better here
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=os.environ | aws)  # noqa: S603
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            sys.exit(pathlib.Path(log.name).read_text())
        yield json.loads(line)
    finally:
        process.terminate()
        process.wait(20)


def show(step: str, signed: SignJwtResponse) -> None:
    """Print a token's header and claims."""
    claims = jwt.decode(signed.token, options={"verify_signature": False})
    say(f"{step}: {signed.token[:20]}…{signed.token[-8:]}")
    say(f"   header  {json.dumps(jwt.get_unverified_header(signed.token))}")
    say(f"   claims  {json.dumps(claims)}")


def verify(token: str, jwks_url: str) -> None:
    """Verify a token as any verifier does: with PyJWT and the URL of the JWK Set."""
    key = jwt.PyJWKClient(jwks_url).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    say(f"   PyJWT accepts it: issued by {claims['iss']} for {claims['sub']}")


def main() -> None:
    """Run the demo."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sealwright-demo-"))
        started = time.monotonic()
        kms = stack.enter_context(running(f"{BIN}/sealwright-emulator", "aws", "--port", "0", directory=directory))
        say(f"1. Started an emulated AWS KMS at {kms['endpoint']}")

        config = pathlib.Path(directory, "sealwright.toml")
        config.write_text(CONFIG.format(directory=directory, kms=kms["endpoint"]))
        service = stack.enter_context(
            running(f"{BIN}/sealwright", "serve", "--config", str(config), directory=directory)
        )
        say(f"2. Started Sealwright: gRPC at {service['grpc']}, HTTP at {service['http']}")

        channel = stack.enter_context(grpc.insecure_channel(service["grpc"]))
        signing, keys = SigningServiceStub(channel), KeyServiceStub(channel)
        order = SignJwtRequest(
            issuer="issuers/payments",
            claims_json='{"scope": "pay", "amount": 9007199254740993}',
            subject="user-1",
            audience=[AUDIENCE],
            token_type="at+jwt",  # noqa: S106 - a type, not a token
        )
        first = signing.SignJwt(order)
        show("3. A token, signed with a key that never left the KMS", first)

        jwks_url = f"http://{service['http']}/payments/.well-known/jwks.json"
        say(f"4. Verify the token with {jwks_url}")
        verify(first.token, jwks_url)

        keys.RotateKeys(RotateKeysRequest(issuer="issuers/payments", expected_kid=first.kid))
        say("5. Rotated: the standby key signs now; every verifier could fetch it before")

        second = signing.SignJwt(order)
        show("6. The next token, signed with another key", second)
        if second.kid == first.kid:
            sys.exit("the key did not change")

        say("7. Verify both: the retired key stays published until its last token has expired")
        verify(first.token, jwks_url)
        verify(second.token, jwks_url)
        say(f"Done in {time.monotonic() - started:.1f} s. Stopping.")


if __name__ == "__main__":
    main()
