"""A model as its user sees it: one object for as long as the client lives, whatever number the sidecar of the day has for it."""

from __future__ import annotations

from . import wire
from .channel import Channel
from .errors import KvferryError
from .keys import Identity
from .layout import Layout


class Model:
    def __init__(self, identity: Identity, layout: Layout, namespace: str = "") -> None:
        self.identity = identity
        self.layout = layout
        self.namespace = namespace
        self.fingerprint = identity.fingerprint
        self._number: int | None = None
        self._problem = KvferryError("model_unknown", "not registered yet")

    @property
    def number(self) -> int:
        """The sidecar's number for it. Raises what the sidecar refused it with, such as a pool of another size after a restart."""
        if self._number is None:
            raise KvferryError(self._problem.code, self._problem.detail)
        return self._number

    async def register(self, channel: Channel, timeout_s: float) -> None:
        """A refusal is kept for whoever uses the model; only a lost connection is raised."""
        try:
            self.take(await channel.request("registerModel", self.fields(), dict, timeout_s))
        except KvferryError as error:
            if error.code == "connection_lost":
                raise
            self._number, self._problem = None, error

    def fields(self) -> dict[str, object]:
        identity, layout = self.identity.to_message(), self.layout.to_message()
        return wire.present(identity=identity, layout=layout, namespace=self.namespace or None)

    def take(self, message: wire.Message) -> Model:
        fingerprint = wire.text(message, "fingerprint")
        if fingerprint != self.fingerprint:
            raise KvferryError("fingerprint_mismatch", f"the sidecar says {fingerprint}, this side {self.fingerprint}")
        self._number = wire.integer(message, "model")
        return self

    def __repr__(self) -> str:
        return f"<Model {self.identity.model} {self.fingerprint[:12]}>"
