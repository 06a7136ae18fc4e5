"""The half of the connector that lives with the scheduler: which requests load, what each step saves, and what a finished prefill says.

Nothing here waits: what must be asked of the sidecar is asked without waiting, and the request is looked at again in a later step."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kvferry import KeyChain, KvferryError, Place
from kvferry.sync import LoopThread

from .identity import seed_of
from .metadata import Load, Metadata, Save
from .options import Options, check_ranks
from .params import (
    Handover,
    Source,
    handle_of,
    new_secret,
    offers_handover,
    parse_handover,
    prompt_digest,
    wants_handover,
)
from .places import of_load, of_step
from .requests import Incoming, Lookup, Outgoing, drop_last_token, trace_of
from .shape import Handshake
from .sharing import share, unused
from .sidecar import Sidecar

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

log = logging.getLogger("vllm.kvferry")


class Scheduler:
    def __init__(self, options: Options, groups: Sequence[int]) -> None:
        """`groups`: numbers of the cache groups whose KV is transferred."""
        self._options = options
        self._groups = tuple(groups)
        self._thread = LoopThread()
        self._fingerprint = ""
        self._block_tokens: tuple[int, ...] = ()
        self._ranks: list[tuple[Handshake, Sidecar]] = []
        self._prefix = False
        self._has_state = False
        self._outgoing: dict[str, Outgoing] = {}
        self._incoming: dict[str, Incoming] = {}
        self._lookups: dict[str, Lookup] = {}
        #: Hand-overs and prefixes are tried once: a request that comes again after a failure is computed. With what it loads from.
        self._tried: dict[str, tuple[Source, ...]] = {}
        self._loads: list[Load] = []
        self._dropped: list[str] = []
        self._refused: list[str] = []

    def meet(self, handshakes: Sequence[Handshake]) -> None:
        """The workers' caches are there; by rank. Raises KvferryError where the operator wants no engine without a sidecar."""
        first = handshakes[0]
        if any(
            other.identity != first.identity or other.shape.block_tokens != first.shape.block_tokens
            for other in handshakes
        ):
            raise KvferryError("unsupported", "the workers' KV is cut differently from rank to rank")
        check_ranks(self._options, len(handshakes))
        self._fingerprint = first.identity.fingerprint
        self._block_tokens = first.shape.block_tokens
        self._has_state = 0 in self._block_tokens
        refuse = self._options.absent == "refuse"
        self._ranks = [
            (
                handshake,
                Sidecar(self._thread, self._options.socket_of(rank), rank, handshake.identity, handshake.shape, refuse),
            )
            for rank, handshake in enumerate(handshakes)
        ]
        self._prefix = self._options.prefix and len(self._block_tokens) == 1 and self._block_tokens[0] > 0
        if self._options.prefix and not self._prefix:
            log.warning("kvferry: prefixes are not shared for a model with several kinds of KV; hand-over works")

    # What vLLM asks.

    def new_request(self, request: Request) -> None:
        params = request.kv_transfer_params
        hands_over = wants_handover(params)
        if self._options.prewarm and offers_handover(params):
            self._prewarm(request)
        if request.prompt_token_ids is None or not self._ranks or not (hands_over or self._prefix):
            return
        if getattr(request, "prompt_embeds", None) is not None or (self._has_state and request.num_prompt_tokens == 1):
            return
        seed = seed_of(request, self._options)
        digest = prompt_digest(self._fingerprint, request.prompt_token_ids, seed) if hands_over else ""
        secret = new_secret() if hands_over else ""
        chain = None
        if self._prefix:
            chain = KeyChain(self._fingerprint, self._block_tokens[0], seed)
            chain.extend(request.prompt_token_ids)
        if hands_over and self._has_state:
            drop_last_token(request)
        self._outgoing[request.request_id] = Outgoing(
            tokens=request.num_prompt_tokens,
            secret_and_digest=secret + digest,
            digest=digest,
            secret=secret,
            chain=chain,
            trace=trace_of(request),
        )

    def matched_tokens(self, request: Request, computed: int) -> tuple[int | None, bool]:
        """Tokens beyond `computed` that can be loaded; None: not known yet."""
        if request.request_id in self._tried or request.prompt_token_ids is None or not self._ranks:
            return 0, False
        if offers_handover(request.kv_transfer_params):
            return self._handover_tokens(request, computed)
        if self._prefix:
            return self._prefix_tokens(request, computed)
        return 0, False

    def allocated(self, request: Request, all_ids: tuple[list[int], ...], external: int) -> None:
        block_ids = self._select(all_ids)
        incoming = self._incoming.pop(request.request_id, None)
        self._lookups.pop(request.request_id, None)
        if incoming is None or external <= 0:
            return
        sources = () if incoming.handover is None else incoming.handover.sources
        self._discard(unused(sources, incoming.parts))
        self._tried[request.request_id] = sources
        self._loads.append(
            Load(
                request=request.request_id,
                tokens=incoming.tokens,
                copies=of_load(self._block_tokens, block_ids, incoming.loaded - external, incoming.loaded),
                parts=incoming.parts,
                peer="" if incoming.place is None else incoming.place.peer,
                keys=incoming.keys,
                trace=trace_of(request),
                exact=self._prefix,
            )
        )

    def step(self, output: SchedulerOutput) -> Metadata:
        metadata = Metadata(
            loads=self._loads,
            dropped=self._dropped,
            refused=self._refused,
            idle=output.total_num_scheduled_tokens == 0,
        )
        self._loads, self._dropped, self._refused = [], [], []
        for new in output.scheduled_new_reqs:
            outgoing = self._outgoing.get(new.req_id)
            if outgoing is not None:
                outgoing.block_ids = self._select(new.block_ids)
                self._save(metadata, new.req_id, outgoing, new.num_computed_tokens, output)
        cached = output.scheduled_cached_reqs
        for at, request in enumerate(cached.req_ids):
            outgoing = self._outgoing.get(request)
            if outgoing is None:
                continue
            ids = cached.new_block_ids[at]
            if request in cached.resumed_req_ids:
                outgoing.block_ids = self._select(ids)
            elif ids is not None:
                for known, added in zip(outgoing.block_ids, self._select(ids), strict=True):
                    known.extend(added)
            self._save(metadata, request, outgoing, cached.num_computed_tokens[at], output)
        return metadata

    def finished(self, request: Request, complete: bool) -> dict[str, Any] | None:
        """`complete`: it ended as it should. What the answer says about where its KV is."""
        name = request.request_id
        sources = self._tried.pop(name, None)
        if sources is None and offers_handover(request.kv_transfer_params):
            self._discard_all(request)
        elif sources and len(self._ranks) > 1:
            # A rank that lost its sidecar has not fetched its part, and cannot say so.
            self._discard(sources)
        self._lookups.pop(name, None)
        self._incoming.pop(name, None)
        outgoing = self._outgoing.pop(name, None)
        if outgoing is None:
            # A load that nobody waits for any more ends at once.
            self._dropped.append(name)
            return None
        if not complete or not outgoing.done:
            self._dropped.append(name)
            return None
        if not outgoing.secret:
            return None
        sources = self._sources(outgoing)
        if sources is None:
            self._dropped.append(name)
            return None
        return Handover(sources, outgoing.tokens, self._fingerprint).to_params()

    def close(self) -> None:
        for _, sidecar in self._ranks:
            sidecar.close()
        self._thread.stop()

    def _select(self, block_ids: tuple[list[int], ...]) -> tuple[list[int], ...]:
        return tuple(list(block_ids[group]) for group in self._groups)

    # Loading.

    def _prewarm(self, request: Request) -> None:
        """Until its turn comes, connections are made. What it brings is looked at closely then: a hint moves no KV, and reaches nobody
        whom the sidecar may not talk to."""
        try:
            brought = parse_handover(request.kv_transfer_params or {}, self._fingerprint, "")
            parts = share(brought.sources, [(rank.first_head, rank.heads) for rank, _ in self._ranks])
        except KvferryError as error:
            log.debug("kvferry: prewarm: %s", error)
            return
        for (rank, sidecar), own in zip(self._ranks, parts, strict=True):
            size = rank.shape.bytes_of(request.num_prompt_tokens)
            for part in own:
                sidecar.prewarm(part.source.peer, max(size // len(own), 1))

    def _handover_tokens(self, request: Request, computed: int) -> tuple[int | None, bool]:
        try:
            handover = self._handover_of(request)
            parts = share(handover.sources, [(rank.first_head, rank.heads) for rank, _ in self._ranks])
        except KvferryError as error:
            self._tried[request.request_id] = ()
            self._refused.append(error.code)
            log.warning("kvferry: the KV that %s brings is not used: %s", request.request_id, error)
            return 0, False
        # Told of the last token as well, vLLM would leave behind the block that this token's window begins in, and state would have seen
        # the token before it is computed.
        loaded = request.num_prompt_tokens - 1
        external, waits = self._take(request, computed, Incoming(handover, parts, None, b"", handover.tokens, loaded))
        if not waits:
            # It is here already, or too little to be worth a transfer.
            self._tried[request.request_id] = ()
            self._discard_all(request)
        return external, waits

    def _handover_of(self, request: Request) -> Handover:
        """Raises KvferryError if what the request brings is no hand-over of its own prompt."""
        digest = prompt_digest(self._fingerprint, request.prompt_token_ids or (), seed_of(request, self._options))
        handover = parse_handover(request.kv_transfer_params or {}, self._fingerprint, digest)
        expected = request.num_prompt_tokens - (1 if self._has_state else 0)
        if handover.tokens != expected:
            raise KvferryError(
                "invalid_argument", f"KV of {handover.tokens} tokens where the prompt has it of {expected}"
            )
        return handover

    def _discard_all(self, request: Request) -> None:
        """The prefill engine's sidecar need not keep for its deadline what nobody will fetch."""
        if not self._ranks or request.prompt_token_ids is None:
            return
        try:
            if getattr(request, "abort_immediately", False):
                # vLLM refused it before it came here, and tells of it without its prompt: whoever knows the handle may fetch it anyway.
                handover = parse_handover(request.kv_transfer_params or {}, self._fingerprint, "")
            else:
                handover = self._handover_of(request)
            self._discard(handover.sources)
        except KvferryError as error:
            log.debug("kvferry: discard: %s", error)

    def _discard(self, sources: Sequence[Source]) -> None:
        for source in sources:
            self._ranks[0][1].discard(source.peer, source.handle)

    def _prefix_tokens(self, request: Request, computed: int) -> tuple[int | None, bool]:
        name = request.request_id
        tokens = self._block_tokens[0]
        # The last token is computed in any case.
        most = (request.num_prompt_tokens - 1) // tokens
        if most * tokens - computed < self._options.min_tokens:
            return 0, False
        lookup = self._lookups.get(name)
        if lookup is None:
            outgoing = self._outgoing.get(name)
            if outgoing is None or outgoing.chain is None:
                return 0, False
            lookup = self._lookups[name] = Lookup(outgoing.chain, self._ask(outgoing.chain, most), time.monotonic())
        if lookup.future is None:
            return 0, False
        if not lookup.future.done():
            if time.monotonic() - lookup.asked < self._options.lookup_timeout_s:
                return None, False
            lookup.future.cancel()
            lookup.future = None
            return 0, False
        place, blocks = self._best(lookup)
        if place is None or blocks * tokens <= computed:
            return 0, False
        outgoing = self._outgoing.get(name)
        # A hand-over promises all tokens, also those that were found; and memory that a save has asked for begins where it began.
        if place.peer == "" and outgoing is not None and outgoing.secret == "" and not outgoing.opened:
            outgoing.first_block = blocks
        keys = lookup.chain.of_blocks(0, blocks)
        return self._take(request, computed, Incoming(None, (), place, keys, blocks * tokens, blocks * tokens))

    def _take(self, request: Request, computed: int, incoming: Incoming) -> tuple[int, bool]:
        external = incoming.loaded - computed
        if external < self._options.min_tokens:
            return 0, False
        self._incoming[request.request_id] = incoming
        return external, True

    def _ask(self, chain: KeyChain, blocks: int) -> Future[list[Place]] | None:
        # All ranks publish the same blocks; one is asked for all.
        return self._ranks[0][1].lookup(chain.of_blocks(0, blocks), self._options.peers, self._options.lookup_timeout_s)

    def _best(self, lookup: Lookup) -> tuple[Place | None, int]:
        """Where most of it lies; our own sidecar among equals."""
        assert lookup.future is not None
        try:
            places = lookup.future.result(0)
        except KvferryError as error:
            log.debug("kvferry: look-up: %s", error)
            return None, 0
        pages = self._block_tokens[0] // lookup.chain.page_tokens
        best = max(places, key=lambda place: (place.matched // pages, place.peer == ""), default=None)
        return best, 0 if best is None else best.matched // pages

    # Saving.

    def _save(
        self, metadata: Metadata, request: str, outgoing: Outgoing, computed: int, output: SchedulerOutput
    ) -> None:
        if outgoing.done:
            return
        end = min(computed + output.num_scheduled_tokens.get(request, 0), outgoing.tokens)
        start = max(min(outgoing.saved, computed), outgoing.first_block * (self._block_tokens[0] or 1))
        final = end >= outgoing.tokens
        if end <= start and not final:
            return
        copies = of_step(self._block_tokens, outgoing.block_ids, start, end, outgoing.secret != "", final)
        keys = b""
        if final and outgoing.chain is not None:
            whole = outgoing.chain.block_count
            keys = outgoing.chain.of_blocks(outgoing.first_block, whole - outgoing.first_block)
        if not outgoing.opened and final and not outgoing.secret and not keys:
            outgoing.done = True
            return
        tokens_kept = (
            outgoing.tokens
            if outgoing.secret
            else outgoing.chain.block_count * self._block_tokens[0]
            if outgoing.chain
            else 0
        )
        metadata.saves.append(
            Save(
                request=request,
                tokens=tokens_kept,
                copies=copies,
                opening=not outgoing.opened,
                final=final,
                secret_and_digest=outgoing.secret_and_digest,
                keys=keys,
                first_key_block=outgoing.first_block,
                trace=outgoing.trace,
            )
        )
        outgoing.opened = True
        outgoing.saved = max(outgoing.saved, end)
        outgoing.done = final

    def _sources(self, outgoing: Outgoing) -> tuple[Source, ...] | None:
        sources = []
        for handshake, sidecar in self._ranks:
            known = sidecar.known
            if known is None or known.info.address == "":
                return None
            handle = handle_of(known.incarnation, outgoing.secret, outgoing.digest)
            sources.append(Source(known.info.address, handle, handshake.first_head, handshake.heads))
        return tuple(sources)
