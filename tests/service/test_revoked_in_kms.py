"""F55: a revoked key is disabled in the KMS too, however long that takes."""

from __future__ import annotations

from pathlib import Path

from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.aws.specs import KeyState
from support.document import document
from support.service import running, until


async def test_f55_a_key_that_the_kms_could_not_disable_is_disabled_when_the_kms_is_back(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint)) as service:
        signed = await service.sign()
        key_id = next(k.key_uri for k in await service.list_keys() if k.kid == signed.kid).rpartition("/")[2]
        emulator.add_fault("error", operation="DisableKey", type="DependencyTimeoutException", status=503)
        for _ in range(2):
            assert any(signed.kid in w for w in (await service.revoke(signed.kid)).warnings)
        gauge = 'sealwright_revoked_keys_not_disabled{provider="aws"}'
        assert f"{gauge} 1.0" in (await service.get("/metrics", at="admin"))[2].decode()
        assert emulator.keys[key_id].state is KeyState.ENABLED
        emulator.clear_faults()

        async def done() -> bool:
            return f"{gauge} 0.0" in (await service.get("/metrics", at="admin"))[2].decode()

        await until(done)
        assert emulator.keys[key_id].state is KeyState.DISABLED
        first, second = await service.revoke(signed.kid), await service.revoke(signed.kid)
        assert not first.warnings
        assert first.verifier_cache_until == second.verifier_cache_until


async def test_f55_the_next_process_disables_what_a_killed_one_has_only_revoked(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    config = document(tmp_path, emulator.endpoint)
    async with running(config) as service:
        signed = await service.sign()
        key_id = next(k.key_uri for k in await service.list_keys() if k.kid == signed.kid).rpartition("/")[2]
        emulator.add_fault("drop_connection", operation="DisableKey")
        await service.revoke(signed.kid)
    emulator.clear_faults()
    assert emulator.keys[key_id].state is KeyState.ENABLED
    async with running(config):

        async def disabled() -> bool:
            return emulator.keys[key_id].state is KeyState.DISABLED

        await until(disabled)
