"""The one linear classifier of the studies."""

from sklearn.linear_model import LogisticRegression


def balanced_logistic(strength: float = 1.0) -> LogisticRegression:
    """A logistic regression in which every class weighs the same; `strength` is the inverse of its penalty."""
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
