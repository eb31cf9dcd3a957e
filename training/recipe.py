"""The recipe: one YAML file that says from what, for which target and how drafters are trained.

Strict and frozen: unknown keys are refused, defaults live here and nowhere else. Relative paths start at the file's own
directory. `configs/train/demo.yaml` is a whole example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core.core_schema import ValidationInfo

from training.divergences import DIVERGENCES

Count = Annotated[int, Field(ge=1, le=1 << 40)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


def _from_recipe(value: Any, info: ValidationInfo) -> Any:
    return (info.context["base"] / value).resolve() if isinstance(value, str) and info.context else value


def _tuple(value: Any) -> Any:
    """YAML has no tuples, and a strict schema takes no list for one."""
    return tuple(value) if isinstance(value, list) else value


FilePath = Annotated[Path, BeforeValidator(_from_recipe)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(_Section):
    """Where texts come from: a file (`path`) or a Hugging Face dataset (`dataset`)."""

    path: FilePath | None = None
    """.jsonl, .tsv (both also .gz), .parquet, .csv, or a directory that `datasets` saved."""
    dataset: str | None = None
    """A name on the Hugging Face hub."""
    subset: str | None = None
    revision: str | None = None
    split: str = "train"
    columns: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = ()
    """Names of a TSV file's columns, in order; it has no line of headings."""
    prompt: str = "{prompt}"
    """What the user says, with fields of the line in braces."""
    answer: str | None = None
    """A reference answer, likewise; absent: none, as distillation needs none."""
    messages: str | None = None
    """A field that holds a conversation, in place of `prompt` and `answer`: a list of {role, content} or {from, value}
    whose last turn is the answer."""
    limit: Count | None = None
    """Lines read at most."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either `path` or `dataset`")
        if self.path is not None and ".tsv" in self.path.suffixes and not self.columns:
            raise ValueError("columns: missing; a TSV file has no headings, so name its columns")
        return self


Sources = Annotated[tuple[Source, ...], BeforeValidator(_tuple)]


class Language(_Section):
    """What one drafter is trained on."""

    data: Sources
    held_out: Sources = ()
    """Texts to judge by, unlike any in `data`; absent: one prompt in twenty-five of `data`."""
    rows: Count | None = None
    """Of its embedding; absent: `trim.rows`."""


class DrafterShape(_Section):
    """A Llama; `polydraft train plan` proposes one."""

    layers: Count = 1
    hidden_size: Count = 256
    intermediate_size: Count = 512
    heads: Count = 4
    kv_heads: Count = 2
    head_dim: Count = 64
    max_positions: Count = 512


class Training(_Section):
    """A budget, exactly one of three, and rates."""

    minutes: Positive | None = None
    """Of computing, resumed runs together. Another machine makes other weights."""
    steps: Annotated[int, Field(ge=0)] | None = None
    """On one thread a killed and resumed run ends with the very weights of an unbroken one."""
    passes: Positive | None = None
    """Over the data."""
    tokens_per_batch: Count = 3_000
    muon_lr: Positive = 0.02
    adamw_lr: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_steps: Count = 60
    decay_share: Annotated[float, Field(gt=0, le=1)] = 0.4
    """The last share of the budget, over which the rates fall to zero."""
    checkpoint_every_s: Positive = 120.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("minutes", "steps", "passes") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'no budget'}; give one of minutes, steps, passes")
        return self


class Pretrain(Training):
    """Stage P: one drafter for all languages with the target's whole vocabulary."""

    data: Sources = ()
    """Absent: the languages' own data. Texts without an answer are learned whole."""
    start_from: FilePath | None = None
    """A Llama of the recipe's shape with the target's tokenizer, in transformers' form."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1


class Distil(_Section):
    """The target writes answers to the languages' prompts."""

    prompts: Count | None = None
    """Of a language; absent: all."""
    temperatures: dict[Annotated[float, Field(ge=0, le=2)], Share] = Field(
        default_factory=lambda: {0.0: 0.25, 0.3: 0.25, 0.7: 0.25, 1.0: 0.25}
    )
    """Share of the prompts answered at each temperature."""
    max_new_tokens: Count = 256
    top_k: Count = 8
    """Likeliest tokens kept at each place for the drafter to learn from."""
    rows_per_batch: Count = 96
    minutes: Positive | None = None
    """For all languages together, divided evenly; absent: until every prompt is answered."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(sum(self.temperatures.values()) - 1.0) > 1e-6:
            raise ValueError(f"temperatures: the shares sum to {sum(self.temperatures.values()):g}; make it 1")
        return self


class Trim(_Section):
    """Which of the target's tokens a drafter knows (VocabTrim, 2506.22694)."""

    rows: Count | None = None
    """Of the embedding, one for all other tokens among them; absent: the whole vocabulary."""
    min_answer_count: Count = 2
    """A token that answers hold less often is read but not proposed: a slip at a high temperature, most likely."""


class Finetune(Training):
    """Stage F: one language's drafter learns from what the target wrote."""

    muon_lr: Positive = 0.01
    adamw_lr: Positive = 1e-3
    warmup_steps: Count = 20
    decay_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    start_from: Literal["pretrain", "nothing", "drafter"] = "pretrain"
    drafter: FilePath | None = None
    """With `start_from: drafter`: the directory of a drafter of this target, for another language perhaps."""
    records: Count | None = None
    """Answers of a language used at most; absent: all."""
    teacher_share: Share = 0.7
    """How much of the loss is the divergence from the target's law; the rest is the token the target chose."""
    divergence: str = "forward_kl"
    on_policy: Share = 0.0
    """Share of the batches whose answers the drafter writes and the target judges (DistillSpec, 2310.08461)."""

    @model_validator(mode="after")
    def _check_start_and_divergence(self) -> Self:
        if (self.start_from == "drafter") != (self.drafter is not None):
            raise ValueError("`start_from: drafter` and `drafter: DIRECTORY` go together; give both or neither")
        if self.divergence not in DIVERGENCES:
            raise ValueError(f"divergence: found {self.divergence!r}; one of {', '.join(DIVERGENCES)}")
        return self


class Evaluate(_Section):
    """Tokens a round of each drafter on each language's held-out answers."""

    records: Count = 200
    """Greedy answers of a language, kept from training."""
    max_drafted: Count = 4


class Recipe(_Section):
    """The whole file."""

    target: FilePath
    """A transformers directory with tokenizer.json."""
    work: FilePath
    """Checkpoints, answers, logs."""
    output: FilePath
    """Gets a directory a language, such as a configuration names."""
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the target where it writes answers; drafters train in float32."""
    threads: Count = 1
    chat: bool | None = None
    """Whether prompts go through the target's chat template; absent: if it has one."""
    broken_lines: Literal["refuse", "skip"] = "refuse"
    languages: dict[LanguageTag, Language]
    drafter: DrafterShape = DrafterShape()
    pretrain: Pretrain | None = None
    """Absent: the stage does nothing, and fine-tuning starts from something else."""
    distil: Distil = Distil()
    trim: Trim = Trim()
    finetune: Finetune
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pretrain is None and self.finetune.start_from == "pretrain":
            raise ValueError(
                "finetune.start_from is pretrain, but there is no section `pretrain`; add it or start anew"
            )
        return self

    def rows_of(self, language: str) -> int | None:
        """Rows of a language's embedding; None: the whole vocabulary."""
        return self.languages[language].rows or self.trim.rows


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; ValueError says where it is wrong."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give a recipe such as configs/train/demo.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({type(error).__name__}); give a UTF-8 text file") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return Recipe.model_validate(document, context={"base": path.parent.resolve()})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}" for item in error.errors()]
        raise ValueError(f"{path}: {'; '.join(problems)}") from None
