"""The section of a report about volumes of regions."""

from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.report.facts import RunFacts, number
from adnext_plugin.report.page import Section, Table

IDS = ("case_id", "subject_id", "fold", "target")


def regions(facts: RunFacts) -> Section | None:
    """How far regions of held-out people lie from normal; None where nobody has measured them."""
    table = facts.deviations
    if table is None:
        return None
    normal, other = facts.task.classes
    # repeated scans and folds of a person count as one
    volumes = [str(name) for name in table if name not in IDS]
    people = table.groupby(["target", "subject_id"])[volumes].mean()
    means = {name: people.loc[name].mean() for name in (normal, other)}
    names = sorted(volumes, key=lambda name: -abs(means[other][name] - means[normal][name]))
    rows = tuple(
        (
            name.removesuffix(REGION_VOLUME).replace("_", " "),
            *(number(float(means[one][name]), 2) for one in (normal, other)),
            number(float(means[other][name] - means[normal][name]), 2),
        )
        for name in names
    )
    caption = (
        "Mean z-scores of held-out people, the largest difference first. What is normal for an age and sex was "
        f"learned from {normal} of each fold's training part"
    )
    header = ("volume", normal, other, "difference")
    return Section(key="regions", title="Regions", tables=(Table(caption=caption, header=header, rows=rows),))
