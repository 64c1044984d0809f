"""`report.html`: one page on a run, which can be mailed, printed and read on a phone."""

from adnext_plugin.report import sections, trust
from adnext_plugin.report.brains import brains
from adnext_plugin.report.checklist import checklist
from adnext_plugin.report.explained import explanations
from adnext_plugin.report.facts import RunFacts
from adnext_plugin.report.origin import model_card, provenance
from adnext_plugin.report.page import Page, render
from adnext_plugin.report.regions import regions


def report_html(facts: RunFacts) -> str:
    """The whole page."""
    made = (
        sections.question(facts),
        sections.cohort(facts),
        brains(facts.brains),
        sections.splits(facts),
        sections.learning(facts),
        sections.results(facts),
        sections.calibration(facts),
        sections.subgroups(facts),
        trust.confounds(facts),
        sections.baselines(facts),
        regions(facts),
        trust.seeds(facts),
        trust.inflation(facts),
        *explanations(facts.explained),
        sections.comparison(facts),
        provenance(facts),
        model_card(facts),
        checklist(facts),
    )
    metrics = facts.metrics
    warning = metrics.warning
    page = Page(
        title=f"{metrics.dataset}, {metrics.trainer}",
        subtitle="Cross-validation, scored on held-out subjects. Nobody's id is on this page.",
        warnings=(warning,) if warning else (),
        sections=tuple(section for section in made if section is not None),
    )
    return render(page)
