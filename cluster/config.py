"""The one configuration schema: strict, frozen, unknown keys refused; defaults live here and nowhere else.

How it is read from a file: `cluster.config_file`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from cluster.adaptation_config import AdaptationConfig
from cluster.drafter_config import DrafterConfig, Placement
from cluster.keys import MAX_HASHES
from cluster.observing_config import ConsoleConfig, LoggingConfig, TracingConfig
from cluster.scaling_config import DrafterScaling, Resources, RouterScaling, TargetScaling, fixed_or_scaled
from cluster.schema import Count, FilePath, Fraction, KeyHashes, Languages, LanguageTag, Name, Names, Seconds, Section
from cluster.tls_config import TlsConfig

Rate = Annotated[float, Field(ge=0.001, le=1_000_000)]
Texts = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1)], ...],
    BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v),
]

DEFAULT_TENANT = "default"
RESERVED_DRAFTERS = frozenset({"auto", "off"})


class ClusterConfig(Section):
    """The application as callers see it."""

    name: Name = "polydraft"
    """Of the Serve application and the Ray namespace."""
    host: str = "127.0.0.1"
    """Address that the front and the replicas' own servers bind; on several machines 0.0.0.0, and each is found at its
    machine's address."""
    grpc_port: Annotated[int, Field(ge=0, le=65_535)] = 50_051
    """0: any free one, told in the `ready` line."""
    http_port: Annotated[int, Field(ge=0, le=65_535)] | None = 8_000
    """Of the OpenAI API, on Serve's HTTP proxy; 0: any free one, told in the `ready` line; null: none."""
    front: Literal["grpc", "serve"] = "grpc"
    """`grpc`: the routers' own server; `serve`: Ray Serve's gRPC proxy."""
    routers: Count = 1
    router_autoscaling: RouterScaling | None = None
    """Instead of `routers`."""
    router_num_cpus: Fraction = 0.2
    router_resources: Resources = Field(default_factory=dict)
    default_speculation: Literal["auto", "off"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> Self:
        fixed_or_scaled(self, "routers", self.router_autoscaling, "router_autoscaling")
        return self


class TargetConfig(Section):
    """The model whose text is served, and the engine's limits."""

    model: FilePath
    served_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$")] | None = None
    """What the OpenAI API calls the model; absent: the name of its directory."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    numerics: Literal["invariant", "fast"] = "invariant"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cuda_graphs: bool = True
    """Capture decode steps on a CUDA device; the text is the same without."""
    verifier: Literal["coupled", "chain_rejection", "block", "multi_round"] = "coupled"
    """`coupled`: argmax of the target's perturbed scores, so that text does not depend on drafts. The others accept
    more where requests sample; what they write follows the target's law, but depends on the drafts, which must come
    with laws of their own: from drafters in the target's step."""
    replicas: Count = 1
    autoscaling: TargetScaling | None = None
    """Instead of `replicas`."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes, each with a part of every layer, that are one replica together; CPUs and GPUs are those of each."""
    num_cpus: Fraction = 1.0
    num_gpus: Fraction = 0.0
    resources: Resources = Field(default_factory=dict)
    num_threads: Count = 1
    max_context: Count | None = None
    """Positions of one sequence; absent: what the model was built for."""
    num_pages: Count = 512
    page_size: Annotated[int, Field(ge=2, le=1 << 31)] = 16
    max_sessions: Count = 64
    """Sequences that a replica decodes at once. Tenants share the places, and the steps, by weight."""
    max_waiting: Count = 256
    """Sequences of one tenant that may wait at a replica beyond those."""
    token_budget: Count = 256
    """Rows of one step: prefill chunks, single tokens and draft nodes together."""
    prefill_chunk: Count = 64
    """Prompt tokens of one step, of all sessions together, while other sessions are decoding."""
    draft_lengths: Literal["measured", "fixed"] = "measured"
    """How long blocks are: as measured to pay, also not at all; or always as long as the request allows."""
    prefix_sharing: bool = True
    """Whether sessions of one tenant share the KV of equal beginnings."""
    shared_prefixes: Texts = ()
    """Beginnings of prompts, or whole system messages, whose KV sessions of all tenants share. Nothing else is."""
    draft_deadline_s: Seconds = 0.05
    """How long a round waits for a block before it runs undrafted."""

    @property
    def name(self) -> str:
        """For the OpenAI API's callers."""
        return self.served_name or self.model.name

    @model_validator(mode="after")
    def _check(self) -> Self:
        fixed_or_scaled(self, "replicas", self.autoscaling, "autoscaling")
        if self.shards > 1 and self.num_cpus + self.num_gpus == 0:
            raise ValueError("num_cpus: a shard needs a part of a CPU or a GPU to be placed by; set one of the two")
        if self.prefill_chunk > self.token_budget:
            raise ValueError(f"prefill_chunk: {self.prefill_chunk} exceeds token_budget {self.token_budget}; lower it")
        if self.shared_prefixes and not self.prefix_sharing:
            raise ValueError("shared_prefixes: set while prefix_sharing is off; remove one of the two keys")
        return self


class TenantConfig(Section):
    """What one tenant may do."""

    default_language: LanguageTag | None = None
    """When a request has no tag and none is detected."""
    languages: Languages | None = None
    """Absent: all."""
    drafters: Names | None = None
    """Absent: all."""
    weight: Annotated[float, Field(ge=0.001, le=1_000)] = 1.0
    """Its share of places and steps at a target replica while others want theirs."""
    max_concurrent: Count = 64
    """Streams at once, at all routers together."""
    max_tokens: Count | None = None
    """Longest answer, if that is less than `limits.max_tokens`."""
    requests_per_s: Rate | None = None
    """Absent, here and below: no limit. Each holds for all routers together."""
    prompt_tokens_per_minute: Count | None = None
    output_tokens_per_minute: Count | None = None
    """Answers of a tenant that is at this limit slow down; the others refuse requests."""
    burst_s: Annotated[float, Field(ge=1, le=3_600)] = 1.0
    """How many seconds of what a tenant does not use it may use later."""
    adapt_drafters: bool = False
    """Whether drafters of a tier, and those of method `ngram_tree`, learn from this tenant's answers, for its own
    requests alone."""
    keys: Annotated[KeyHashes, Field(min_length=1, max_length=MAX_HASHES)] = ()
    """Hashes of the key that its calls must carry, as `polydraft tenants key` prints them: two while keys change.
    Absent: calls need none."""


class LimitsConfig(Section):
    """Bounds on requests, and how long the router waits for whom."""

    max_prompt_bytes: Count = 262_144
    default_max_tokens: Count = 256
    max_tokens: Count = 4_096
    max_stop_strings: Count = 16
    max_chat_messages: Count = 1_024
    max_concurrent_streams: Count = 256
    """Of a router, all tenants together."""
    slow_reader_s: Seconds = 30.0
    """A stream whose client takes nothing for so long is cancelled."""
    credit_tokens: Annotated[int, Field(ge=8)] = 64
    """Tokens that the target may be ahead of the client."""
    heartbeat_s: Seconds = 1.0
    lease_s: Seconds = 5.0
    """Silence after which a peer is taken for dead."""
    failover_wait_s: Seconds = 60.0
    """How long a request waits for a target replica."""
    drain_s: Seconds = 60.0
    """How long a replica or router that leaves, as in an update, lets answers go on that cannot move."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(f"lease_s: {self.lease_s} is less than two heartbeats of {self.heartbeat_s}; raise it")
        return self


class RayConfig(Section):
    """The Ray under the cluster."""

    address: str | None = None
    """Of a running Ray; absent: `serve` starts one of its own and ends it."""
    dashboard: bool = False
    object_store_memory_mb: Annotated[int, Field(ge=80)] = 100
    num_cpus: Count | None = None
    """Absent: as many as the machine has."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Where a Ray of its own tells its metrics, without a key and on all addresses; 0: any free one."""


class Config(Section):
    """Everything that `polydraft serve` needs to know."""

    cluster: ClusterConfig = ClusterConfig()
    target: TargetConfig
    drafters: dict[Name, DrafterConfig] = Field(default_factory=dict)
    languages: Languages = ()
    """Languages that are served without a drafter of their own."""
    tenants: dict[Name, TenantConfig] = Field(default_factory=dict)
    tenants_file: FilePath | None = None
    """YAML with what would stand under `tenants`, in its stead. Routers read it again when it changes."""
    limits: LimitsConfig = LimitsConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    tls: TlsConfig = TlsConfig()
    logging: LoggingConfig = LoggingConfig()
    tracing: TracingConfig = TracingConfig()
    console: ConsoleConfig = ConsoleConfig()
    ray: RayConfig = RayConfig()

    @property
    def drafters_of_language(self) -> dict[str, tuple[str, ...]]:
        """In the order in which they are configured."""
        tags = dict.fromkeys(tag for drafter in self.drafters.values() for tag in drafter.languages)
        return {tag: tuple(name for name, d in self.drafters.items() if tag in d.languages) for tag in tags}

    @property
    def known_languages(self) -> tuple[str, ...]:
        """Sorted; what a request may name and detection chooses from."""
        return tuple(sorted({*self.drafters_of_language, *self.languages}))

    def without_counts(self) -> Config:
        """The same for all replicas however many there are: they need not be replaced when only that changes."""
        none: dict[str, object] = {"replicas": 1, "autoscaling": None}
        drafters = {name: drafter.model_copy(update=none) for name, drafter in self.drafters.items()}
        cluster = self.cluster.model_copy(update={"routers": 1, "router_autoscaling": None})
        target = self.target.model_copy(update=none)
        return self.model_copy(update={"cluster": cluster, "target": target, "drafters": drafters})

    @property
    def resting_drafters(self) -> dict[str, DrafterScaling]:
        """Those that may have no replica when nobody asks for them."""
        scaled = {name: d.autoscaling for name, d in self.drafters.items() if d.autoscaling is not None}
        return {name: autoscaling for name, autoscaling in scaled.items() if autoscaling.min_replicas == 0}

    @property
    def all_tenants(self) -> dict[str, TenantConfig]:
        return {DEFAULT_TENANT: TenantConfig(), **self.tenants}

    @property
    def tier_drafters(self) -> dict[str, DrafterConfig]:
        """Those with a deployment of their own."""
        return {name: d for name, d in self.drafters.items() if d.placement is Placement.TIER}

    @property
    def target_drafters(self) -> dict[str, DrafterConfig]:
        """Those that run in the target's step."""
        return {name: d for name, d in self.drafters.items() if d.placement is Placement.TARGET}

    @property
    def adapting_tenants(self) -> tuple[str, ...]:
        """Those whose answers drafters learn from."""
        return tuple(name for name, tenant in self.tenants.items() if tenant.adapt_drafters)

    def adapting_tenants_of(self, drafter: str) -> tuple[str, ...]:
        """Those whose answers this drafter learns from; none for one in the target's step, or with none or several
        models."""
        if drafter not in self.tier_drafters or self.drafters[drafter].model is None:
            return ()
        return tuple(
            name
            for name in self.adapting_tenants
            if (allowed := self.tenants[name].drafters) is None or drafter in allowed
        )

    def keeps_text(self, tenant: str, drafters: Iterable[str]) -> bool:
        """Whether one of these drafters drafts for the tenant from what was served to it."""
        return tenant in self.adapting_tenants and any(self.drafters[name].keeps_text for name in drafters)

    @model_validator(mode="after")
    def _check_adaptation(self) -> Self:
        trains = {name for drafter in self.drafters for name in self.adapting_tenants_of(drafter)}
        for name in self.adapting_tenants:
            allowed = self.tenants[name].drafters
            if name not in trains and not self.keeps_text(name, self.drafters if allowed is None else allowed):
                raise ValueError(
                    f"tenants.{name}.adapt_drafters: no drafter of a tier serves it, and of drafters in the target's "
                    "step only method 'ngram_tree' learns; give one `placement: tier` or remove the key"
                )
        if trains and self.adaptation.directory is None:
            raise ValueError(
                f"adaptation.directory: missing, but tenant '{min(trains)}' adapts drafters; "
                "give a folder for their versions"
            )
        return self

    @model_validator(mode="after")
    def _check_verifier(self) -> Self:
        if self.target.verifier != "coupled" and self.tier_drafters:
            raise ValueError(
                f"target.verifier: '{self.target.verifier}' needs the law of each draft, which does not travel, but "
                f"drafter '{next(iter(self.tier_drafters))}' is in a tier; use 'coupled' or give it `placement: target`"
            )
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.cluster.front == "serve" and self.tls.front is not None:
            raise ValueError(
                "tls.front: Serve's proxy, which `cluster.front: serve` asks for, has no TLS; "
                "use `cluster.front: grpc` or remove the section"
            )
        if self.cluster.http_port is not None and self.tls.front is not None and self.tls.front.client_authority:
            raise ValueError(
                "tls.front.client_authority: Serve's HTTP proxy cannot demand certificates of callers; "
                "set `cluster.http_port: null` or remove the key"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.drafters:
            if name in RESERVED_DRAFTERS:
                raise ValueError(f"drafters.{name}: the name has a meaning in requests; choose another")
        for name, drafter in self.drafters.items():
            made_of = {part: self.drafters.get(part) for part in drafter.of}
            if unfit := [part for part, found in made_of.items() if found is None or found.method == "cascade"]:
                raise ValueError(
                    f"drafters.{name}.of: {unfit} are no drafters that a cascade can be made of; "
                    f"configured: {[other for other, one in self.drafters.items() if one.method != 'cascade']}"
                )
            skipping = [part for part, one in made_of.items() if one is not None and one.method == "layer_skip"]
            if skipping and drafter.placement is Placement.TIER:
                raise ValueError(
                    f"drafters.{name}.placement: its '{skipping[0]}' drafts with the target; set `placement: target`"
                )
        known = set(self.known_languages)
        for name, tenant in self.tenants.items():
            wanted = {*(tenant.languages or ()), *([tenant.default_language] if tenant.default_language else [])}
            if unknown := sorted(wanted - known):
                raise ValueError(f"tenants.{name}: no drafter or `languages` entry knows {unknown}; add one")
            if missing := sorted(set(tenant.drafters or ()) - set(self.drafters)):
                raise ValueError(
                    f"tenants.{name}: drafters {missing} are not configured; configured: {[*self.drafters]}"
                )
        return self
