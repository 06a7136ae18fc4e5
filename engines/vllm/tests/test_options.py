"""kv_connector_extra_config: every option is parsed, bounded and refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kvferry import KvferryError
from kvferry_vllm.options import Options, check_ranks


def refused(extra: dict[str, Any]) -> str:
    with pytest.raises(KvferryError) as raised:
        Options.parse({"socket": "/s", **extra})
    assert raised.value.code == "invalid_config"
    return str(raised.value)


def test_the_socket_alone_is_enough() -> None:
    options = Options.parse({"socket": "/run/kvferry.sock"})
    assert (options.prefix, options.peers, options.absent, options.min_tokens) == (False, (), "serve", 1)
    assert options.socket_of(3) == "/run/kvferry.sock"


def test_the_readme_says_these_options_and_defaults() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[1] / "README.md").read_text()
    options = Options.parse({"socket": "/s"})
    for name in Options.__slots__:
        rows = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert len(rows) == 1, f"{name} has {len(rows)} rows in README.md"
        said, value = rows[0].split("|")[2].strip(), getattr(options, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert float(said) == value, name


@pytest.mark.parametrize("extra, named", [
    ({"sockets": "/x"}, "sockets"), ({"socket": ""}, "socket"), ({"socket": 5}, "socket"),
    ({"prefix": "yes"}, "prefix"), ({"prefix": 1}, "prefix"), ({"prewarm": "no"}, "prewarm"),
    ({"peers": "a,b"}, "peers"), ({"peers": ["a", ""]}, "peers"), ({"peers": [1]}, "peers"), ({"absent": "wait"}, "absent"),
    ({"peers": 5}, "peers"), ({"peers": {"a": 1}}, "peers"), ({"peers": None}, "peers"),
    ({"tenant": None}, "tenant"), ({"min_tokens": 0}, "min_tokens"), ({"min_tokens": True}, "min_tokens"),
    ({"min_tokens": 2**40}, "min_tokens"), ({"allow_untested_vllm": "yes"}, "allow_untested_vllm"),
    ({"min_tokens": 1.9}, "min_tokens"), ({"min_tokens": 2.0}, "min_tokens"), ({"min_tokens": "5"}, "min_tokens"),
    ({"load_timeout_s": 0}, "load_timeout_s"), ({"load_timeout_s": "30"}, "load_timeout_s"),
    ({"load_timeout_s": float("nan")}, "load_timeout_s"),
    ({"offer_timeout_s": 10**6}, "offer_timeout_s"), ({"lookup_timeout_s": -1}, "lookup_timeout_s"),
])  # fmt: skip
def test_what_is_wrong_is_named(extra: dict[str, Any], named: str) -> None:
    assert named in refused(extra)


def test_several_ranks_need_a_socket_each() -> None:
    options = Options.parse({"socket": "/run/{rank}.sock"})
    assert [options.socket_of(rank) for rank in range(2)] == ["/run/0.sock", "/run/1.sock"]
    check_ranks(options, 2)
    check_ranks(Options.parse({"socket": "/s"}), 1)
    with pytest.raises(KvferryError) as raised:
        check_ranks(Options.parse({"socket": "/s"}), 2)
    assert raised.value.code == "invalid_config" and "{rank}" in str(raised.value)
