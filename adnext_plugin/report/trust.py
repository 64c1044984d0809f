"""The sections of a report about how far its numbers can be believed. Each is left out where nothing is known."""

from adnext_plugin.findings import Probe
from adnext_plugin.report.facts import RunFacts, estimate, number
from adnext_plugin.report.page import Section, Table


def confounds(facts: RunFacts) -> Section | None:
    """Whether the network tells sites, or what its features tell besides the answer."""
    probes = facts.metrics.probes or ()
    paragraphs = _within_site(facts)
    if not probes and not paragraphs:
        return None
    tables: tuple[Table, ...] = ()
    if probes:
        table = Table(
            caption="What a linear model, cross-validated by subject, guesses from the features of held-out scans",
            header=("column", "subjects", "AUC, mean of folds", "balanced accuracy"),
            rows=tuple(_probe_row(one) for one in probes),
            flagged=frozenset(index for index, one in enumerate(probes) if _is_told(one)),
        )
        tables = (table,)
    return Section(key="confounds", title="Confounds", paragraphs=paragraphs, tables=tables)


def seeds(facts: RunFacts) -> Section | None:
    """What another training seed changes, where there are several."""
    spread = facts.metrics.seeds
    if spread is None:
        return None
    rows = tuple(
        (
            name.replace("_", " "),
            f"{number(score.mean)} ± {number(score.standard_deviation)}",
            f"{number(score.lowest)} to {number(score.highest)}",
            *(number(value) for value in score.by_seed),
            estimate(spread.together[name]),
        )
        for name, score in spread.scores.items()
    )
    table = Table(
        caption="Each seed a cross-validation of its own on the same folds",
        header=("score", "mean ± SD", "range", *(f"seed {seed}" for seed in spread.seeds), "mean prediction"),
        rows=rows,
    )
    text = "This spread is not part of the intervals over subjects, which are those of the first seed."
    return Section(key="seeds", title="Seeds", paragraphs=(text,), tables=(table,))


def inflation(facts: RunFacts) -> Section | None:
    """What the paper's protocol would have printed of this run, where that was recorded."""
    meter = facts.metrics.inflation_meter
    if meter is None:
        return None
    rows = tuple(
        (name.replace("_", " "), *map(number, (score.honest, score.best_held_out_epoch, score.inflated_by)))
        for name, score in meter.scores.items()
    )
    table = Table(
        caption="The same run, scored at the epochs that were kept and at those best on the held-out part",
        header=("score", "honest", "best held-out epoch", "inflated by"),
        rows=rows,
        flagged=frozenset(range(len(rows))),
    )
    text = f"{meter.warning}. The column is here to show by how much that overstates; never report it as a result."
    return Section(key="inflation", title="Inflation meter", paragraphs=(text,), tables=(table,))


def _within_site(facts: RunFacts) -> tuple[str, ...]:
    within = facts.metrics.within_site
    if within is None:
        return ()
    found = "too few subjects" if within.auc is None else estimate(within.auc)
    return (
        f"AUC among pairs of the same site, {within.sites} sites with several classes: {found}. "
        f"Among all pairs: {estimate(facts.metrics.scores.get('auc_pooled'))}. "
        "Where the latter is much higher, sites are told apart instead of classes.",
    )


def _probe_row(probe: Probe) -> tuple[str, ...]:
    counts = ", ".join(f"{count} {name}" for name, count in zip(probe.classes, probe.subjects_by_class, strict=True))
    if probe.scores is None:
        return (probe.column, counts, "too few", "too few")
    return (probe.column, counts, *(estimate(score) for score in probe.scores.values()))


def _is_told(probe: Probe) -> bool:
    found = (probe.scores or {}).get("auc_mean_of_folds")
    return found is not None and found.low is not None and found.low > 0.5
