"""The closed list of errors, the same in every language (schemas/errors.json, of which errors.json here is a copy)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ErrorKind:
    code: str
    number: int
    #: Who can do something about it: caller, operator, peer, network, load or kvferry.
    fault: str
    #: Whether trying again helps: never, now or later.
    retry: str
    text: str


def _load() -> Mapping[str, ErrorKind]:
    listed = json.loads(resources.files(__package__).joinpath("errors.json").read_text("utf-8"))["errors"]
    return MappingProxyType({entry["code"]: ErrorKind(**entry) for entry in listed})


ERRORS: Mapping[str, ErrorKind] = _load()


class KvferryError(Exception):
    """Whatever goes wrong in kvferry. A code that a newer server made up arrives as ``internal``, named in the detail."""

    def __init__(self, code: str, detail: str = "") -> None:
        if code not in ERRORS:
            code, detail = "internal", f"unknown error {code}: {detail}"
        # These arguments are what an exception is pickled by, between processes.
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    @property
    def retry(self) -> str:
        return ERRORS[self.code].retry

    @property
    def fault(self) -> str:
        return ERRORS[self.code].fault

    def __str__(self) -> str:
        text = f"{self.code}: {ERRORS[self.code].text}"
        return f"{text} ({self.detail})" if self.detail else text


def expected(what: str, name: str, received: object, code: str = "invalid_argument") -> KvferryError:
    """The one form in which a wrong value is reported."""
    shown = repr(received)
    return KvferryError(
        code, f"Expected {what} for {name} but received {shown if len(shown) <= 100 else shown[:97] + '...'}"
    )
