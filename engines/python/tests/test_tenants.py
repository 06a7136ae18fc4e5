"""Two sidecars that serve two tenants each, over TLS: what one tenant has in a public namespace the other may have."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kvferry
from kvferry import Ferry, GroupBlocks, KvferryError, Model, Range
from sidecars import BLOCK_TOKENS, IDENTITY, ROOT, WAIT_S, Sidecar, layout_of

RULES = [{"from": "blue", "namespaces": ["public/*"]}]


def cert(*arguments: str) -> None:
    subprocess.run(
        ["node", "--import", "tsx", "transport/cli.ts", "cert", *arguments], cwd=ROOT, check=True, timeout=60
    )


def socket_of(folder: Path, name: str, tenant: str) -> str:
    return str(folder / f"{name}.{tenant}.sock")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[dict[str, Ferry]]:
    """Clients, by "SIDECAR.TENANT"."""
    authority = str(tmp_path / "ca")
    cert("ca", "--out", authority)
    sidecars: list[Sidecar] = []
    clients: dict[str, Ferry] = {}
    try:
        for name in ("holder", "asker"):
            uri = f"spiffe://fleet/{name}"
            cert("node", "--ca", authority, "--name", name, "--host", "127.0.0.1", "--uri", uri, "--out", str(tmp_path))
            blue, green = (
                {"identities": ["spiffe://fleet/*"], "socket": socket_of(tmp_path, name, tenant)}
                for tenant in ("blue", "green")
            )
            policy = tmp_path / f"{name}.json"
            policy.write_text(json.dumps({"tenants": {"blue": blue, "green": green | {"fetch": RULES}}}))
            flags = ["--tls-certificate", f"{tmp_path}/{name}.crt", "--tls-key", f"{tmp_path}/{name}.key"]
            flags += ["--tls-authorities", f"{authority}/ca.crt", "--policy", str(policy)]
            sidecars.append(Sidecar(name, *flags))
            sidecars[-1].start()
        for sidecar in sidecars:
            for tenant in ("blue", "green"):
                clients[f"{sidecar.name}.{tenant}"] = sidecar.connect_to(socket_of(tmp_path, sidecar.name, tenant))
        yield clients
    finally:
        for client in clients.values():
            client.close()
        for sidecar in sidecars:
            sidecar.close()


def fetched(ferry: Ferry, model: Model, peer: str, handle: str) -> str:
    """ "" or the code it failed with."""
    into = ferry.alloc(1)
    try:
        ferry.fetch(peer, model, handle, [GroupBlocks(0, into, BLOCK_TOKENS)], deadline_s=WAIT_S).result(WAIT_S)
        return ""
    except KvferryError as error:
        return error.code
    finally:
        ferry.free(into)


def test_what_another_tenant_may_have(fleet: dict[str, Ferry]) -> None:
    holder, asker = fleet["holder.blue"], fleet["asker.green"]
    blue = f"blue@{holder.info().address}"
    layout = layout_of(holder.pool())
    plain, public = (
        holder.register_model(IDENTITY, layout),
        holder.register_model(IDENTITY, layout, namespace="public/day"),
    )
    assert plain is not public
    assert public is holder.register_model(IDENTITY, layout, namespace="public/day")
    model = asker.register_model(IDENTITY, layout_of(asker.pool()))
    blocks = holder.alloc(1)
    hidden = holder.offer(plain, [GroupBlocks(0, blocks, BLOCK_TOKENS)])
    assert fetched(asker, model, blue, hidden.handle) == "handle_unknown"
    hidden.withdraw()
    bound = holder.offer(public, [GroupBlocks(0, blocks, BLOCK_TOKENS)], peers=["spiffe://fleet/another"])
    assert fetched(asker, model, blue, bound.handle) == "handle_unknown"
    bound.withdraw()
    offer = holder.offer(public, [GroupBlocks(0, blocks, BLOCK_TOKENS)], peers=["spiffe://fleet/asker"])
    assert fetched(asker, model, blue, offer.handle) == ""
    offer.result(WAIT_S)
    chain = kvferry.KeyChain(public.fingerprint, BLOCK_TOKENS)
    chain.extend(range(BLOCK_TOKENS))
    holder.publish(public, 0, blocks, chain.keys)
    assert asker.lookup(model, 0, chain.keys, [blue])[1].matched == 1


def test_buffers_have_a_namespace_too(fleet: dict[str, Ferry]) -> None:
    holder, asker = fleet["holder.blue"], fleet["asker.green"]
    blue = f"blue@{holder.info().address}"
    ours, hidden = asker.register_buffer(4096), holder.register_buffer(4096)
    public = holder.register_buffer(4096, namespace="public/state")
    public.view[:] = np.arange(4096, dtype=np.uint32).astype(np.uint8)
    asker.read(blue, public.handle, ours, [Range(0, 0, 4096)]).result(WAIT_S)
    assert np.array_equal(ours.view, public.view)
    with pytest.raises(KvferryError) as caught:
        asker.read(blue, hidden.handle, ours, [Range(0, 0, 4096)]).result(WAIT_S)
    assert caught.value.code == "handle_unknown"
