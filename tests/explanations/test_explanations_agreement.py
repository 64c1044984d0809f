"""Agreement of profiles over regions, beside that of different people."""

import numpy as np
import pytest

from adnext_plugin.explanations.agreement import agreement, intraclass_correlation, mean_with_interval

# four judges of six things, Shrout and Fleiss 1979, Table 2; ICC(1,1) is 0.17 in their Table 4
JUDGES = np.array([[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]], dtype=float)


def test_the_correlation_is_that_of_shrout_and_fleiss() -> None:
    assert intraclass_correlation(JUDGES) == pytest.approx(0.166, abs=0.001)
    assert intraclass_correlation(np.stack([JUDGES[0]] * 3)) == pytest.approx(1)
    assert np.isnan(intraclass_correlation(np.ones((2, 4))))


def _profiles(own: float, shared: float, noise: float, people: int = 40) -> list[np.ndarray]:
    """Two profiles a person over 60 regions: what all share, what is the person's own, and noise."""
    generator = np.random.default_rng(0)
    all_share = generator.normal(size=60)
    all_share *= shared / all_share.std(ddof=1)
    return [all_share + own * generator.normal(size=60) + noise * generator.normal(size=(2, 60)) for _ in range(people)]


def test_agreement_is_that_of_the_person_beside_that_of_strangers() -> None:
    found = agreement(_profiles(own=1, shared=1, noise=1))
    # by the variances: 2 of 3 within a person, 1 of 3 between people; a region's over people 1 of 2
    assert found.people == 40
    assert found.over_regions.value == pytest.approx(2 / 3, abs=0.05)
    assert found.over_regions.low < 2 / 3 < found.over_regions.high
    assert found.of_strangers == pytest.approx(1 / 3, abs=0.05) and found.over_people == pytest.approx(0.5, abs=0.05)


def test_maps_that_are_alike_for_everybody_agree_between_strangers_as_well() -> None:
    found = agreement(_profiles(own=0, shared=1, noise=0.1))
    assert found.over_regions.value > 0.95 and found.of_strangers == pytest.approx(found.over_regions.value, abs=0.01)
    assert abs(found.over_people) < 0.2


def test_what_nobody_has_twice_is_not_compared_and_few_people_are_not_set_apart() -> None:
    assert agreement([]) is None and agreement([np.ones((1, 5))]) is None
    assert agreement([np.zeros((2, 5))]) is None  # maps that are 0 everywhere say nothing
    few = agreement([*_profiles(own=1, shared=0, noise=1, people=3), np.ones((1, 60))])
    assert few.people == 3 and few.over_people is None and few.of_strangers is not None
    one = agreement(_profiles(own=1, shared=0, noise=1, people=1))
    assert one.people == 1 and one.over_regions.low is None and one.of_strangers is None


def test_the_interval_of_a_mean_is_students() -> None:
    found = mean_with_interval(np.array([1.0, 2, 3, 4]))
    # SD 1.291, standard error 0.645, t with three degrees of freedom 3.182
    assert (found.low, found.high) == pytest.approx((2.5 - 2.054, 2.5 + 2.054), abs=1e-3)
