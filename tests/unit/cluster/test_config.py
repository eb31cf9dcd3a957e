"""The configuration: what is refused, and that it says where, what was found and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config import Config
from cluster.config_file import load
from cluster.drafter_config import Placement
from cluster.errors import ConfigError
from cluster.model_files import check_models, target_facts

ROOT = Path(__file__).resolve().parents[3]
GOOD = """
target: {model: m/target}
drafters:
  de: {method: lm, model: m/de, languages: [de, nl], max_draft_tokens: 6}
  ngram: {method: ngram}
languages: [en]
tenants:
  acme: {default_language: de, drafters: [de], max_concurrent: 2}
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["local.yaml", "gpu.yaml", "single.yaml"])
def test_shipped_configurations_load(name: str) -> None:
    config = load(ROOT / "configs" / name)

    assert config.known_languages == ("de", "fr", "ja", "ru", "zh")
    assert config.target.model == ROOT / "models" / "target"
    assert config.drafters["ngram"].placement is Placement.TARGET
    assert set(config.tier_drafters) == (set() if name == "single.yaml" else {"de", "fr", "ja", "ru", "zh"})


def test_a_tenant_may_let_text_drafters_learn_without_a_folder_for_versions(tmp_path: Path) -> None:
    drafters = "drafters: {a: {method: ngram_tree}, b: {method: ngram}}"
    config = load(write(tmp_path, f"target: {{model: m}}\n{drafters}\ntenants: {{acme: {{adapt_drafters: true}}}}"))

    assert config.keeps_text("acme", ["a", "b"]) and not config.keeps_text("acme", ["b"])
    assert not config.keeps_text("default", ["a"])


def test_values_and_derived_tables(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))

    assert config.target.model == tmp_path / "m" / "target"
    assert config.drafters_of_language == {"de": ("de",), "nl": ("de",)}
    assert config.known_languages == ("de", "en", "nl")
    assert set(config.all_tenants) == {"default", "acme"}
    assert (config.cluster.host, config.cluster.grpc_port, config.limits.lease_s) == ("127.0.0.1", 50_051, 5.0)


def test_a_drafter_with_a_model_may_run_in_the_target_and_lookup_runs_nowhere_else(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD), ["drafters.de.placement=target"])

    assert "de" not in config.tier_drafters
    with pytest.raises(ConfigError, match="placement: method 'ngram' runs in the target; remove the key"):
        load(write(tmp_path, GOOD), ["drafters.look={method: ngram, placement: tier}"])


def test_a_target_that_drafts_for_itself_needs_no_model_and_runs_nowhere_else(tmp_path: Path) -> None:
    own = "drafters.own={method: layer_skip, skip_file: sets/own.json}"
    config = load(write(tmp_path, GOOD), [own, "drafters.both={method: cascade, placement: target, of: [own, ngram]}"])

    assert config.drafters["own"].placement is Placement.TARGET
    assert config.drafters["own"].skip_file == Path.cwd() / "sets/own.json"
    for override, complaint in [
        ("drafters.own={method: layer_skip, placement: tier}", "method 'layer_skip' runs in the target"),
        ("drafters.own={method: layer_skip, model: m}", "method 'layer_skip' has none; remove the key"),
        ("drafters.look={method: ngram, skip_file: s.json}", "skip_file: only method 'layer_skip' has it"),
        ("drafters.both={method: cascade, of: [own, ngram]}", "its 'own' drafts with the target; set `placement: tar"),
    ]:
        with pytest.raises(ConfigError) as refused:
            load(write(tmp_path, GOOD), [own, override])
        assert complaint in str(refused.value)


def test_drafters_of_a_tier_learn_from_tenants_that_allow_it(tmp_path: Path) -> None:
    tenants = "  free: {adapt_drafters: true}\n  only: {adapt_drafters: true, drafters: [ngram, de]}\n"
    second = "  fr: {method: lm, model: m/fr, languages: [fr]}\n  ngram:"
    text = GOOD.replace("  ngram:", second) + tenants + "adaptation: {directory: v}\n"

    config = load(write(tmp_path, text))

    assert config.adaptation.directory == tmp_path / "v"
    assert config.adapting_tenants == ("free", "only")
    assert config.adapting_tenants_of("de") == ("free", "only")
    assert config.adapting_tenants_of("fr") == ("free",)
    assert config.adapting_tenants_of("ngram") == ()
    assert load(write(tmp_path, GOOD)).adapting_tenants == ()


def test_overrides_come_after_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["target.replicas=2", "target.dtype=float32", "limits.slow_reader_s=3", "target.model=other"]

    config = load(write(tmp_path, GOOD), overrides)

    assert (config.target.replicas, config.target.dtype, config.limits.slow_reader_s) == (2, "float32", 3.0)
    assert config.target.model == tmp_path / "other"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "targets: 1\n", ["targets", "unknown key"]),
        ("target: {model: m, pages: 1}", ["target.pages", "unknown key"]),
        ("drafters: {}", ["target", "missing"]),
        ("target: {model: m, replicas: two}", ["target.replicas", "'two'"]),
        ("target: {model: m, replicas: 0}", ["target.replicas", "0"]),
        ("target: {model: m, dtype: float16}", ["target.dtype", "'float16'", "bfloat16"]),
        ("target: {model: m, shards: 2, num_cpus: 0.0}", ["target", "num_cpus", "a shard needs"]),
        ("target: {model: m, prefill_chunk: 512}", ["prefill_chunk", "512", "token_budget"]),
        (GOOD + "  free: {adapt_drafters: true}\n", ["adaptation.directory", "missing", "'free'"]),
        (
            GOOD.replace("model: m/de", "model: m/de, placement: target") + "  free: {adapt_drafters: true}\n",
            ["tenants.free.adapt_drafters", "no drafter of a tier", "placement: tier"],
        ),
        (
            GOOD + "  free: {adapt_drafters: true, drafters: [ngram]}\nadaptation: {directory: v}\n",
            ["tenants.free.adapt_drafters", "no drafter of a tier"],
        ),
        (GOOD + "adaptation: {batch_positions: 40000}\n", ["adaptation", "batch_positions", "40000", "lower it"]),
        (GOOD + "adaptation: {divergence: kl}\n", ["adaptation.divergence", "'kl'", "forward_kl"]),
        (GOOD + "adaptation: {gate_tolerence: 0}\n", ["adaptation.gate_tolerence", "unknown key"]),
        ("target: {model: m, prefix_sharing: 1}", ["target.prefix_sharing", "1"]),
        ("target: {model: m, shared_prefixes: ['']}", ["target.shared_prefixes"]),
        ("target: {model: m, prefix_sharing: false, shared_prefixes: [a]}", ["shared_prefixes", "remove"]),
        ("target: {model: m}\ndrafters: {de: {method: lm}}", ["drafters.de", "model", "missing"]),
        ("target: {model: m}\ndrafters: {x: {method: eagle}}", ["drafters.x.method", "'eagle'"]),
        ("target: {model: m}\ndrafters: {auto: {method: ngram}}", ["drafters.auto", "choose another"]),
        ("target: {model: m}\ndrafters: {x: {method: cape, model: d, branching: 1}}", ["branching", "'cape'"]),
        ("target: {model: m}\ndrafters: {x: {method: lm, model: d, widths: [2]}}", ["widths", "multi_candidate"]),
        ("target: {model: m}\ndrafters: {x: {method: multi_candidate, model: d, widths: [0]}}", ["widths", "0"]),
        ("target: {model: m}\ndrafters: {x: {method: ngram, model: d}}", ["model", "'ngram' has none"]),
        ("target: {model: m}\ndrafters: {x: {method: ngram_tree, placement: tier}}", ["placement", "'ngram_tree'"]),
        ("target: {model: m}\ndrafters: {x: {method: lm, model: d, models: {de: e}}}", ["models", "beside model"]),
        ("target: {model: m}\ndrafters: {x: {method: cascade, of: [x]}}", ["of", "two drafters or more"]),
        ("target: {model: m}\ndrafters: {x: {method: ngram, of: [y, z]}}", ["of", "only method 'cascade'"]),
        (
            "target: {model: m}\ndrafters: {x: {method: cascade, of: [y, z], placement: target}, y: {method: ngram}}",
            ["drafters.x.of", "'z'"],
        ),
        (
            "target: {model: m, verifier: block}\ndrafters: {de: {method: lm, model: d}}",
            ["target.verifier", "'block'", "'de'", "placement: target"],
        ),
        (
            "target: {model: m}\ndrafters: {x: {method: ngram}}\ntenants: {acme: {adapt_drafters: true}}",
            ["tenants.acme.adapt_drafters", "ngram_tree"],
        ),
        (GOOD + "  beta: {default_language: fr}\n", ["tenants.beta", "fr"]),
        (GOOD + "  beta: {drafters: [xx]}\n", ["tenants.beta", "xx", "ngram"]),
        ("target: {model: m}\nlimits: {lease_s: 1}", ["lease_s", "heartbeats"]),
        ("- 1", ["list", "target:"]),
        ("a: [", ["YAML"]),
    ],
)
def test_refusals_say_where_and_what(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))

    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "pydantic" not in message and "\n" not in message


@pytest.mark.parametrize("override", ["target.replicas", "=3", "target.model.x=1", "target.replicas=[", "a..b=1"])
def test_malformed_overrides_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load(write(tmp_path, GOOD), [override])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        load(tmp_path / "absent.yaml")


def make_model(directory: Path, *files: str) -> None:
    directory.mkdir(parents=True)
    for file in files:
        (directory / file).write_text('{"vocab_size": 99, "max_position_embeddings": 64, "num_key_value_heads": 2}')


def test_model_directories_must_be_complete(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))

    with pytest.raises(ConfigError, match=r"target\.model: .* is not a directory"):
        check_models(config)
    make_model(config.target.model, "config.json", "tokenizer.json")
    with pytest.raises(ConfigError, match=r"target\.model: .* no \*\.safetensors"):
        check_models(config)
    (config.target.model / "model.safetensors").touch()
    make_model(tmp_path / "m" / "de", "config.json")
    with pytest.raises(ConfigError, match=r"drafters\.de\.model: .* no drafter\.json"):
        check_models(config)
    (tmp_path / "m" / "de" / "drafter.json").touch()
    (tmp_path / "m" / "de" / "model.safetensors").touch()
    check_models(config)


def test_facts_of_the_target(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = load(path)
    make_model(config.target.model, "config.json")

    assert target_facts(config).max_context == 64 and target_facts(config).vocab_size == 99
    assert target_facts(load(path, ["target.max_context=32"])).max_context == 32
    with pytest.raises(ConfigError, match=r"max_context: 65 exceeds the model's 64"):
        target_facts(load(path, ["target.max_context=65"]))
    with pytest.raises(ConfigError, match=r"shards: 3 exceeds the 2 KV heads"):
        target_facts(load(path, ["target.shards=3"]))


def test_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))

    with pytest.raises(ValueError, match="frozen"):
        config.target = Config.model_validate({"target": {"model": "x"}}).target


def test_scaling_limits_and_counts_leave_replicas_as_they_are(tmp_path: Path) -> None:
    fixed = load(write(tmp_path, GOOD), ["target.replicas=2"])
    scaled = load(
        write(tmp_path, GOOD),
        [
            "target.autoscaling={max_replicas: 4, kv: 0.5}",
            "drafters.de.autoscaling={min_replicas: 0, max_replicas: 3, wake_streams: 2}",
            "cluster.router_autoscaling={max_replicas: 2}",
        ],
    )

    assert scaled.without_counts() == fixed.without_counts()
    assert {name: drafter.wake_streams for name, drafter in scaled.resting_drafters.items()} == {"de": 2}


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("target.autoscaling={max_replicas: 4, min_replicas: 5}", "min_replicas: 5 exceeds max_replicas 4"),
        ("target.autoscaling={max_replicas: 4, min_replicas: 0}", "target.autoscaling.min_replicas: found 0"),
        ("target.autoscaling={max_replica: 4}", "target.autoscaling.max_replica: unknown key"),
        ("target.autoscaling={}", "target.autoscaling.max_replicas: missing"),
        ("target.autoscaling={max_replicas: 4, kv: 80}", "target.autoscaling.kv: found 80"),
        ("drafters.ngram.autoscaling={max_replicas: 4}", "a drafter in the target's step has no replicas"),
        ("target.resources={GPU: 1}", "'GPU' has a key of its own; use num_gpus"),
        ("cluster.router_resources={a b: 1}", "found 'a b'"),
    ],
)
def test_scaling_that_cannot_be_is_refused(tmp_path: Path, override: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, GOOD), [override])

    assert complaint in str(refused.value)


def test_a_fixed_number_beside_scaling_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="autoscaling: set beside replicas: 2, which is a fixed number; remove one"):
        load(write(tmp_path, GOOD), ["target.replicas=2", "target.autoscaling={max_replicas: 4}"])
