"""What weights are, where they come from and what they are worth: a record, and the page that it makes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from pydantic import FiniteFloat

from adnext_plugin.records import record


@record
class Source:
    """A data set that was learned from: how many people and scans, which of them, its terms and whom to cite."""

    name: str
    people: int
    scans: int
    which: str
    terms: str
    cite: str


@record
class CardScore:
    """A score on people whom the network had not seen, with its 95 % interval over people, and what guessing gives."""

    of: str  # whom
    people: int
    name: str
    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    unit: str = ""
    guessing: FiniteFloat | None = None  # the same score of the mean, or of the most frequent class
    note: str = ""

    @property
    def in_words(self) -> str:
        """Value, interval and unit."""
        interval = "" if self.low is None or self.high is None else f" [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.value:.1f}{interval}{' ' * bool(self.unit)}{self.unit}"


@record
class ModelCard:
    """Everything that a user must know of weights before they use them."""

    name: str
    title: str  # one line
    answers: str  # what the model gives for a scan; "" for an encoder alone
    trainer: str  # whose networks can begin with the weights
    encoder: str  # file of the bundle that they begin with
    network: str
    parameters: int
    spacing_mm: tuple[float, float, float]  # z, y, x
    input_size_voxels: tuple[int, int, int]
    prepared: str
    trained: str  # how
    precision: str  # of the stored numbers, and what it costs
    sources: tuple[Source, ...]
    scores: tuple[CardScore, ...]
    limits: tuple[str, ...]
    licence: str
    tags: tuple[str, ...] = ()
    further: Mapping[str, Any] = field(default_factory=dict)  # front matter of the page


def card_page(card: ModelCard) -> str:
    """The card as a page in Markdown, with the front matter that the Hugging Face hub reads."""
    return "\n".join([*_front_matter(card), *_body(card)]) + "\n"


def _front_matter(card: ModelCard) -> Iterator[str]:
    # values of JSON are values of YAML, too
    yield "---"
    yield "library_name: adnext_plugin"
    yield f"license_name: {json.dumps(card.licence)}"
    yield f"tags: {json.dumps(list(card.tags))}"
    yield f"datasets: {json.dumps([source.name for source in card.sources])}"
    for key, value in card.further.items():
        yield f"{key}: {json.dumps(value)}"
    yield "---"


def _body(card: ModelCard) -> Iterator[str]:
    yield f"# {card.name}\n\n{card.title}\n"
    if card.answers:
        yield f"**Answers.** {card.answers}\n"
    yield f"**Network.** {card.network}, {card.parameters:,} parameters, trained as `{card.trainer}`. {card.trained}\n"
    size = " × ".join(map(str, card.input_size_voxels))
    spacing = " × ".join(f"{edge:g}" for edge in card.spacing_mm)
    yield f"**Input.** {size} voxels of {spacing} mm (z, y, x). {card.prepared}\n"
    yield f"**Stored.** {card.precision}\n"
    yield "## What it is worth\n"
    yield "| people it had not seen | number | measure | score [95 %] | guessing |\n|---|---|---|---|---|"
    for score in card.scores:
        guessing = "" if score.guessing is None else f"{score.guessing:.1f}"
        yield f"| {score.of} | {score.people} | {score.name} | {score.in_words} | {guessing} |"
    yield from (f"\n{score.of}: {score.note}" for score in card.scores if score.note)
    yield "\n## What it learned from\n"
    yield "| data | people | scans | which | terms | cite |\n|---|---|---|---|---|---|"
    for one in card.sources:
        yield f"| {one.name} | {one.people} | {one.scans} | {one.which} | {one.terms} | {one.cite} |"
    yield "\n## Limits\n"
    yield from (f"- {limit}" for limit in card.limits)
    yield f"\n## Licence\n\n{card.licence}"
