"""Verifiers of six kinds. Each gets every token as soon as there is one, and once more before it expires."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from random import Random

import aiohttp
import grpc

from interop import node_support, python_env
from interop.gateways import envoy, nginx
from interop.gateways.common import Gateway, Setup
from interop.interop_support import AUDIENCE, Realm, issuer_url
from interop.node_support import FOLDER

from .hosts import ISSUERS, MAX_AGE, STALE_IF_ERROR
from .ledger import REFUSED as REFUSED_TOKEN
from .ledger import Ledger, Token

ACCEPTED, REFUSED, EXPIRED, NO_SET = "accepted", "refused", "expired", "no set"
Outcome = tuple[str, str]
"""The outcome and its detail."""
Ask = Callable[[Token], Awaitable[Outcome]]

_QUEUE = 500
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_ENDS = 0.7
"""Seconds before its `exp` in which a token is not shown to anybody any more: a verifier may be slow."""
_SCRIPT = Path(__file__).with_name("pyjwt_verifier.py")
_NO_SET_OF = {"Envoy": "Jwks remote fetch is failed", "nginx": "failed to load jwks"}
"""What they answer, or write to their log, when a 401 means that there is no set."""


class Verifier:
    """One verifier, and the tokens that wait for it."""

    def __init__(self, name: str, ask: Ask, ledger: Ledger) -> None:
        self.name = name
        self._ask = ask
        self._ledger = ledger
        self._queue: asyncio.Queue[Token] = asyncio.Queue(_QUEUE)

    def show(self, token: Token) -> None:
        """Let it verify a token as soon as it can."""
        try:
            self._queue.put_nowait(token)
        except asyncio.QueueFull:
            self._ledger.count(f"verified by {self.name}", "not shown, since too many wait")

    async def run(self) -> None:
        """Verify until cancelled."""
        while True:
            token = await self._queue.get()
            if time.time() > token.expires - _ENDS:
                continue
            asked = time.time()
            outcome, detail = await self._ask(token)
            self._judge(token, asked, outcome, detail)

    def _judge(self, token: Token, asked: float, outcome: str, detail: str) -> None:
        """Count an outcome. A refusal is a violation, unless the token has expired or its key was revoked."""
        if outcome == REFUSED:
            if time.time() >= token.expires - _ENDS / 2:
                outcome = EXPIRED
            elif token.kid in self._ledger.revoked:
                outcome = "refused, since the key is revoked"
            elif token.kid in self._ledger.hurried:
                outcome = "refused, since an emergency made the key ready"
            else:
                text = f"{self.name}: {token}, {asked - token.released:.1f} s after its release, {detail}"
                self._ledger.violate(REFUSED_TOKEN, text)
        self._ledger.count(f"verified by {self.name}", outcome)


class Verifiers:
    """All of them. None of the `jobs` ends by itself."""

    def __init__(self, ledger: Ledger, rng: Random) -> None:
        self._ledger = ledger
        self._rng = rng
        self.all: list[Verifier] = []
        self.jobs: list[asyncio.Task[None]] = []

    def show(self, token: Token) -> None:
        """Show a new token to all, and again later."""
        for verifier in self.all:
            verifier.show(token)
            later = self._rng.uniform(0, token.expires - time.time() - _ENDS)
            # Half of them at the very end, where a key that was withdrawn too early is missed first.
            if self._rng.randrange(2):
                later = token.expires - time.time() - 2 * _ENDS
            asyncio.get_running_loop().call_later(max(0.0, later), verifier.show, token)

    @asynccontextmanager
    async def running(self, directory: Path, http: str, cache: str) -> AsyncIterator[None]:
        """Start all, and end them.

        Args:
            directory: For their files; others than root can read it.
            http: Where the balancer of the service is: `host:port`.
            cache: Where the shared cache is.
        """
        async with AsyncExitStack() as stack:
            node_support.install()
            env = python_env.install()
            age, stale = str(MAX_AGE), str(STALE_IF_ERROR)
            asks: dict[str, Ask] = {
                "PyJWT": await self._process(stack, http, sys.executable, _SCRIPT, "library", age, stale),
                "PyJWT, strict, behind the shared cache": await self._process(
                    stack, cache, sys.executable, _SCRIPT, "strict", age, stale
                ),
                "jose": await self._process(stack, http, "node", FOLDER / "stream.mjs", age),
            }
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=_TIMEOUT))
            channel = stack.enter_context(grpc.insecure_channel("127.0.0.1:1"))  # a Realm has one; nobody uses it
            realm = Realm(channel, http, "")
            for name, gateway in (("Envoy", envoy), ("nginx", nginx)):
                folder = directory / name.lower()
                folder.mkdir(mode=0o755)
                setup = Setup(
                    directory=folder, env=env, realm=realm, issuers=list(ISSUERS), cache_seconds=MAX_AGE, obeys=True
                )
                running = stack.enter_context(gateway.start(setup))
                asks[name] = _gateway(running, session, folder / f"{name.lower()}.log", _NO_SET_OF[name])
            self.all = [Verifier(name, ask, self._ledger) for name, ask in asks.items()]
            self.jobs = [asyncio.ensure_future(v.run()) for v in self.all]
            stack.push_async_callback(_end, self.jobs)
            yield

    async def _process(self, stack: AsyncExitStack, http: str, *command: str | Path) -> Ask:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        stack.callback(_kill, process)
        source, sink = process.stdout, process.stdin
        assert source is not None
        assert sink is not None

        async def ask(token: Token) -> Outcome:
            job = {
                "id": token.jti,
                "issuer": issuer_url(token.issuer),
                "audience": AUDIENCE,
                "url": f"http://{http}/{token.issuer}/.well-known/jwks.json",
                "token": token.text,
            }
            sink.write(json.dumps(job).encode() + b"\n")
            line = await source.readline()
            if not line:
                raise RuntimeError(f"a verifier has ended: {' '.join(map(str, command))}")
            answer = json.loads(line)
            assert answer["id"] == token.jti
            return answer["outcome"], answer["detail"]

        return ask


def _gateway(gateway: Gateway, session: aiohttp.ClientSession, log: Path, no_set: str) -> Ask:
    async def ask(token: Token) -> Outcome:
        port, path = gateway.routes[token.issuer]
        headers = {"Authorization": f"Bearer {token.text}"}
        before = _size(log)
        try:
            async with session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer:
                body = await answer.text()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            return NO_SET, ""
        if status == HTTPStatus.OK:
            return ACCEPTED, ""
        # It has one request at a time, so these lines are about this one.
        why = f"{body} {_since(log, before)}"
        if status != HTTPStatus.UNAUTHORIZED or no_set in why:
            return NO_SET, ""
        return REFUSED, " ".join(why.split())[-300:]

    return ask


def _size(file: Path) -> int:
    return file.stat().st_size


def _since(file: Path, size: int) -> str:
    return file.read_bytes()[size:].decode()


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


async def _end(jobs: Sequence[asyncio.Task[None]]) -> None:
    for job in jobs:
        job.cancel()
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
