"""The area under the ROC curve among people of the same site, so that no site can be told instead of the disease."""

import numpy as np
import pandas as pd

from adnext_plugin.evaluation.scores.areas import binary_auc
from adnext_plugin.evaluation.subjects.characteristics import FEWEST, column_of
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, bootstrap
from adnext_plugin.findings import WithinSite

SITE = "site"


def describe_within_site(
    predictions: SubjectPredictions, subjects: pd.DataFrame, resamples: Resamples
) -> WithinSite | None:
    """Score pairs of subjects of the same site only, all sites' pairs together; None where there is one site or none.

    With more than two classes each is set against the rest and the mean taken. As in the pooled area, the two of a
    pair may be of different folds. Source: Janes and Pepe 2009, Biometrika 96:371 (covariate-adjusted area).

    Args:
        predictions: of held-out subjects.
        subjects: content of `subjects.csv`; a subject's site is that of the first scan.
        resamples: of the held-out subjects.
    """
    sites = column_of(predictions, subjects, SITE)
    if sites is None:
        return None
    targets = predictions.targets
    shared = [site for site in np.unique(sites[sites != ""]) if len(np.unique(targets[sites == site])) > 1]
    usable = np.isin(sites, shared)
    counts = np.bincount(targets[usable], minlength=len(predictions.classes))
    auc = None
    if counts.min() >= FEWEST:
        of_sites = np.where(usable, sites, "")
        auc = bootstrap(lambda weights: {SITE: within_site_auc(predictions, of_sites, weights)}, resamples)[SITE]
    return WithinSite(sites=len(shared), subjects_by_class=tuple(counts.tolist()), auc=auc)


def within_site_auc(predictions: SubjectPredictions, sites: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of pairs within a site that are ordered rightly, ties half, for each row of weights; (R,).

    Args:
        predictions: of N subjects.
        sites: names (N,), empty for those who are left out.
        weights: (R, N).
    """
    classes = [1] if len(predictions.classes) == 2 else range(len(predictions.classes))
    areas = [_area(predictions.targets == k, predictions.probabilities[:, k], sites, weights) for k in classes]
    return np.mean(areas, axis=0)


def _area(is_positive: np.ndarray, scores: np.ndarray, sites: np.ndarray, weights: np.ndarray) -> np.ndarray:
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for site in np.unique(sites[sites != ""]):
        rows = sites == site
        here, positive = weights[:, rows], is_positive[rows]
        formed = here[:, positive].sum(axis=1) * here[:, ~positive].sum(axis=1)
        wins += np.where(formed > 0, formed * binary_auc(positive, scores[rows], here), 0)
        pairs += formed
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
