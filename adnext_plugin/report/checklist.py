"""A reporting checklist, answered where the run's own files know the answer, and flagged where the authors must.

Items follow TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378) in our words; the second number is that of the matching
item in CLAIM (Mongan et al. 2020, Radiol Artif Intell 2:e200029).
"""

from collections.abc import Mapping

from adnext_plugin.report.facts import RunFacts, estimate
from adnext_plugin.report.page import Section, Table

EMPTY = "to be filled in by the authors"

ITEMS = (  # TRIPOD+AI, CLAIM, what is to be reported, which answer tells it
    ("1", "1", "Title: model development or evaluation, population, outcome", None),
    ("2", "2", "Structured abstract", None),
    ("3", "3", "Background: purpose, care pathway, intended users, known health inequalities", None),
    ("4", "4, 6", "Objectives", "objective"),
    ("5", "5, 7", "Source and dates of the data", None),
    ("6", "8", "Setting, eligibility, treatments", None),
    ("7", "9", "Preparation of the data", "preparation"),
    ("8", "14–18", "Outcome: definition, who assessed it, blinding", None),
    ("9", "11", "Predictors", "predictors"),
    ("10", "19", "Sample size", "sample_size"),
    ("11", "13", "Missing data", "missing"),
    ("12a", "20, 21", "Partition of the data, and at which level", "partition"),
    ("12b", "9", "Handling of predictors: rescaling, augmentation", "handling"),
    ("12c", "22, 24–27", "Model, training, choice of the final model, internal validation", "model"),
    ("12d", "30", "Heterogeneity between sites or groups", "heterogeneity"),
    ("12e", "28, 29", "Measures and plots of performance, uncertainty", "measures"),
    ("12f–g", "32", "Updating; how predictions on other data were made", None),
    ("13", "25", "Class imbalance", "imbalance"),
    ("14", "30", "Fairness", "heterogeneity"),
    ("15", "22", "Output of the model and thresholds", "output"),
    ("16", "32", "Differences between development and evaluation data", "differences"),
    ("17", "12", "Ethical approval, consent, de-identification", None),
    ("18a–b", "42", "Funding and conflicts of interest", None),
    ("18c–d", "40, 41", "Protocol and registration", None),
    ("18e–f", "23, 41", "Sharing of data and code", "code"),
    ("19", "", "Involvement of patients and the public", None),
    ("20", "33, 34", "Flow and characteristics of participants", "participants"),
    ("21", "33", "Participants and outcome events per analysis", "sample_size"),
    ("22", "22", "Specification of the model, so that it can be used", "specification"),
    ("23", "35, 36", "Performance with intervals, in subgroups", "performance"),
    ("24", "", "Results of updating", None),
    ("25", "37", "Interpretation, failures", None),
    ("26", "38", "Limitations", None),
    ("27", "39", "Use in care: poor input, expertise needed, next steps", None),
)


def checklist(facts: RunFacts) -> Section:
    """Every item with its answer."""
    answers = _answers(facts)
    rows = tuple(
        (tripod, claim, what, (answers.get(key, "") if key else "") or EMPTY) for tripod, claim, what, key in ITEMS
    )
    empty = frozenset(index for index, row in enumerate(rows) if row[-1] == EMPTY)
    table = Table(
        caption="TRIPOD+AI, and the matching items of CLAIM 2020",
        header=("TRIPOD+AI", "CLAIM", "item", "answer"),
        rows=rows,
        flagged=empty,
    )
    text = (
        f"{len(rows) - len(empty)} of {len(rows)} items are answered from the run's own files; {len(empty)} are empty."
    )
    return Section(key="checklist", title="Reporting checklist", paragraphs=(text,), tables=(table,))


def _answers(facts: RunFacts) -> Mapping[str, str]:
    metrics, plan, task = facts.metrics, facts.plan, facts.task
    made_with = facts.runs[0].provenance
    settings = facts.runs[0].settings
    counts = "; ".join(f"{n} {name}" for name, n in facts.people[task.target].value_counts().items())
    absent = [name for name in ("age", "sex", "site") if name not in facts.people]
    covariates = ", ".join(settings.get("covariates") or ()) or "none"
    class_weights = settings.get("class_weights", "not known")
    return {
        "objective": f"Predict {task.target}" + (f" ({', '.join(task.classes)})" if task.classes else ""),
        "preparation": f"Every scan: {'; '.join(facts.preparation)}. See Provenance",
        "predictors": f"One MRI volume; further columns: {covariates}",
        "sample_size": f"{metrics.subjects} subjects" + (f": {counts}" if task.classes else ""),
        "missing": "Scans without target were not imported"
        + (f"; {', '.join(absent)} unknown for all" if absent else "; see Cohort for unknown ages and sexes"),
        "partition": f"{len(metrics.folds)} folds of subjects, drawn before training, hash "
        f"{metrics.splits_sha256[:16]}; train, selection and held-out parts are disjoint in subjects",
        "handling": f"Augmentation '{settings['augmentation']}' in training only; scales from training parts only",
        "model": f"{plan['network']['name']}; {settings['epochs']} epochs, epoch chosen on "
        f"{'the held-out part (OPTIMISTIC)' if metrics.protocol == 'paper' else 'selection'}; "
        f"weights: {'pre-trained' if settings.get('pretrained_weights') else 'random'}",
        "heterogeneity": "See Subgroups" if len(facts.subgroups) > 1 else "",
        "measures": f"See Results; {metrics.resamples} resamples of subjects",
        "imbalance": f"Class weights: {class_weights}" if task.classes else "not applicable: a quantity",
        "output": "Probability of each class; thresholds chosen on selection" if task.classes else "A number",
        "differences": "Held-out subjects are of the same cohort; no external data are part of this page",
        "code": f"adnext_plugin {made_with.adnext_plugin}, commit {made_with.commit}",
        "participants": "See Cohort; flow before import is to be described by the authors",
        "specification": "Network and settings under Provenance; weights in the run's checkpoints",
        "performance": estimate(metrics.scores[metrics.primary_score]) + f" ({metrics.primary_score}); "
        "see Results and Subgroups",
    }
