"""The sections of a report about the model: what made it, and what it is for."""

import json
import re
from typing import Any

from adnext_plugin.records import to_json
from adnext_plugin.report.facts import RunFacts, estimate
from adnext_plugin.report.page import Section, Table
from adnext_plugin.run_metrics import RunMetrics
from adnext_plugin.settings import REASON_GIVEN, REASONS


def provenance(facts: RunFacts) -> Section:
    """Versions, commit, plan, seeds."""
    made_by = [to_json(run.provenance) for run in facts.runs]
    rows = [(key, _joined([run.get(key) for run in made_by])) for key in made_by[0]]
    settings = [run.settings for run in facts.runs]
    rows += [(f"setting {key}", _joined([_shown(key, one.get(key)) for one in settings])) for key in settings[0]]
    rows += [
        (f"plan, {key}", json.dumps(_shown(key, facts.plan[key])))
        for key in ("preprocessing", "network")
        if key in facts.plan
    ]
    rows.append(("folds, SHA-256", facts.metrics.splits_sha256))
    table = Table(
        caption="The same in all folds unless several values stand", header=("what", "value"), rows=tuple(rows)
    )
    return Section(key="provenance", title="Provenance", tables=(table,))


def model_card(facts: RunFacts) -> Section:
    """What a user of the model must know. Source of the headings: Mitchell et al. 2019, FAT*."""
    metrics, task = facts.metrics, facts.task
    groups = [group for group in facts.subgroups if group.column != "all"]
    shown = [group for group in groups if group.score]
    factors = ", ".join(dict.fromkeys(group.column for group in groups)) or "none known"
    rows = (
        ("model", f"{metrics.trainer}, network {facts.plan['network']['name']}, {len(metrics.folds)} folds"),
        ("output", f"probability of {', '.join(task.classes)}" if task.classes else f"{task.target} as a number"),
        ("input", f"one MRI volume; every scan: {'; '.join(facts.preparation)}"),
        ("intended use", "research; it is not a medical device, and no decision about a person may rest on it"),
        ("out of scope", "scans prepared otherwise, other sequences, people unlike the cohort below"),
        ("training data", f"{metrics.dataset}: {metrics.subjects} subjects, see Cohort"),
        ("evaluation data", "the same cohort, each subject held out once; no other centre unless stated"),
        ("performance", f"{metrics.primary_score}: {estimate(metrics.scores[metrics.primary_score])}"),
        ("factors looked at", f"{factors}; {len(shown)} of {len(groups)} subgroups are large enough"),
        ("caveats", metrics.warning or _about_seeds(metrics)),
    )
    return Section(key="model-card", title="Model card", tables=(Table(caption="", header=("", ""), rows=rows),))


def _about_seeds(metrics: RunMetrics) -> str:
    if metrics.seeds is not None:
        return "what another training seed changes is not in the intervals; see Seeds"
    return "what another training seed would change is not in the intervals"


def _joined(values: list) -> str:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return ", ".join(dict.fromkeys(texts))


def _shown(name: str, value: Any) -> Any:
    """Without folders of the machine that trained, and reasons that may name people; also of runs that kept them."""
    if isinstance(value, dict):
        return {key: _shown(key, content) for key, content in value.items()}
    if name in REASONS and value is not None:
        return REASON_GIVEN
    is_file = name.endswith("_weights") or name in ("weights", "brain_mask_files")
    return re.split(r"[/\\]", value)[-1] if is_file and isinstance(value, str) else value
