"""The faults of `planted_faults.py`: leaks, swapped roles and wrong ends, each one line, each with its tests."""

from dataclasses import dataclass

SCORING = "tests/faults/test_faults_of_scoring.py::test_"
DATA = "tests/faults/test_faults_of_data.py::test_"
RUNS = "tests/faults/test_faults_of_runs.py::test_"
TRAINING = "tests/faults/test_faults_of_training.py::test_"
EVALUATION = "tests/evaluation/test_evaluation_"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A text of the package, what is planted in its place, and the tests of which at least one must then fail."""

    name: str
    text: str
    planted: str
    tests: tuple[str, ...]


def _fault(name: str, text: str, planted: str, *tests: str) -> Fault:
    return Fault(name=name, text=text, planted=planted, tests=tests)


OF_SCORING = (
    _fault(
        "age bias fitted on val instead of selection",
        """(means["part"] == "selection") & (means["fold"] == fold)]
        line = fit""",
        """(means["part"] == "val") & (means["fold"] == fold)]
        line = fit""",
        f"{SCORING}the_age_bias_is_corrected_by_what_the_selection_part_of_the_same_fold_shows",
    ),
    _fault(
        "age bias fitted on the selection parts of all folds",
        """(means["part"] == "selection") & (means["fold"] == fold)]
        line = fit""",
        """(means["part"] == "selection")]
        line = fit""",
        f"{SCORING}the_age_bias_is_corrected_by_what_the_selection_part_of_the_same_fold_shows",
    ),
    _fault(
        "age bias of the truth less the prediction",
        "np.polyfit(targets, predictions - targets, 1)",
        "np.polyfit(targets, targets - predictions, 1)",
        f"{SCORING}the_error_of_a_bias_is_the_prediction_less_the_truth",
    ),
    _fault(
        "other people's age bias from the parts that were held out",
        'selection = own_predictions[own_predictions["part"] == "selection"]',
        'selection = own_predictions[own_predictions["part"] == "val"]',
        f"{SCORING}other_peoples_age_bias_is_corrected_by_the_mean_over_folds_of_their_selection_parts",
    ),
    _fault(
        "other people's age bias from the first fold alone",
        "line.corrected(values.targets, values.values) for line in lines]",
        "line.corrected(values.targets, values.values) for line in lines[:1]]",
        f"{SCORING}other_peoples_age_bias_is_corrected_by_the_mean_over_folds_of_their_selection_parts",
    ),
    _fault(
        "other people called by the first fold's threshold",
        "mean = np.mean([one for one in thresholds if one is not None])",
        "mean = [one for one in thresholds if one is not None][0]",
        f"{SCORING}other_people_are_called_by_the_mean_of_the_folds_thresholds",
    ),
    _fault(
        "baselines fitted on train and val",
        'train = [position[case] for case in parts["train"]]',
        'train = [position[case] for case in parts["train"] + parts["val"]]',
        f"{SCORING}a_baseline_that_learns_by_heart_has_met_nobody_it_is_asked_about",
    ),
    _fault(
        "baselines fitted on train and selection",
        'train = [position[case] for case in parts["train"]]',
        'train = [position[case] for case in parts["train"] + parts["selection"]]',
        f"{SCORING}a_baseline_that_learns_by_heart_has_met_nobody_it_is_asked_about",
    ),
    _fault(
        "baselines asked about selection are said to be asked about val",
        'for part in ("val", "selection"):\n            rows = [position[case] for case in parts[part]]',
        'for part in ("val", "selection"):\n            rows = [position[case] for case in parts["selection"]]',
        f"{SCORING}a_baseline_says_of_each_case_what_it_thinks_of_that_case",
    ),
    _fault(
        "threshold multiplied by the temperature",
        "expit(logit(probability) / self.value)",
        "expit(logit(probability) * self.value)",
        f"{SCORING}a_threshold_moves_with_the_probabilities_that_a_temperature_changes",
    ),
    _fault(
        "logits multiplied by the temperature",
        "softmax(logits / self.value, axis=1)",
        "softmax(logits * self.value, axis=1)",
        f"{SCORING}a_threshold_moves_with_the_probabilities_that_a_temperature_changes",
    ),
    _fault(
        "seeds together keep the first seed's thresholds",
        'averaged = ("probabilities", "thresholds")',
        'averaged = ("probabilities",)',
        f"{SCORING}seeds_together_are_called_by_the_mean_of_their_thresholds",
    ),
    _fault(
        "age bands closed on the other side",
        'np.digitize(people["age"].to_numpy(dtype=float), AGE_EDGES)',
        'np.digitize(people["age"].to_numpy(dtype=float), AGE_EDGES, right=True)',
        f"{SCORING}a_birthday_opens_the_next_age_band",
    ),
    _fault(
        "positives and negatives exchanged in the detectable difference",
        "int(is_positive.sum()), int((~is_positive).sum()), correlation)",
        "int((~is_positive).sum()), int(is_positive.sum()), correlation)",
        f"{SCORING}what_a_cohort_of_few_patients_and_many_controls_can_show_counts_each_in_their_role",
    ),
    _fault(
        "positives and negatives exchanged in the detectable area of a comparison",
        "detectable_area(counts[1], counts[0])",
        "detectable_area(counts[0], counts[1])",
        f"{SCORING}what_a_cohort_of_few_patients_and_many_controls_can_show_counts_each_in_their_role",
    ),
    _fault(
        "networks compared at 0.5 instead of at their thresholds",
        "return (self.probabilities[:, 1] >= self.thresholds).astype(int)",
        "return (self.probabilities[:, 1] >= 0.5).astype(int)",
        f"{SCORING}networks_disagree_where_their_own_thresholds_say_so",
    ),
    _fault(
        "first and second exchanged in McNemar's test",
        "only_first = int((first_is_right & ~second_is_right).sum())",
        "only_first = int((second_is_right & ~first_is_right).sum())",
        f"{SCORING}networks_disagree_where_their_own_thresholds_say_so",
    ),
    _fault(
        "temperatures and thresholds for a sensitivity fitted on val",
        """rows = means[(means["part"] == "selection") & (means["fold"] == fold)]""",
        """rows = means[(means["part"] == "val") & (means["fold"] == fold)]""",
        f"{SCORING}each_folds_temperature_is_what_its_own_selection_part_asks_for",
        f"{SCORING}thresholds_are_chosen_on_the_selection_part_of_the_same_fold",
    ),
    _fault(
        "temperatures fitted on the selection parts of all folds",
        """rows = means[(means["part"] == "selection") & (means["fold"] == fold)]""",
        """rows = means[(means["part"] == "selection")]""",
        f"{SCORING}each_folds_temperature_is_what_its_own_selection_part_asks_for",
    ),
    _fault(
        "thresholds of another fold",
        'chosen_on = means[(means["part"] == "selection") & (means["fold"] == fold)]\n            positive',
        'chosen_on = means[(means["part"] == "selection") & (means["fold"] != fold)]\n            positive',
        f"{SCORING}thresholds_are_chosen_on_the_selection_part_of_the_same_fold",
    ),
    _fault(
        "thresholds chosen on val",
        'chosen_on = means[(means["part"] == "selection") & (means["fold"] == fold)]\n            positive',
        'chosen_on = means[(means["part"] == "val") & (means["fold"] == fold)]\n            positive',
        f"{SCORING}thresholds_are_chosen_on_the_selection_part_of_the_same_fold",
    ),
    _fault(
        "calibrated probabilities with thresholds as they were",
        "thresholds[rows] = temperature.probabilities(_logits(both))[:, 1]",
        "thresholds[rows] = both[:, 1]",
        f"{SCORING}each_folds_temperature_is_what_its_own_selection_part_asks_for",
    ),
    _fault(
        "recalibration fitted on the people it is judged on",
        "_FITS[method](predictions.probabilities[rest], predictions.targets[rest])",
        "_FITS[method](predictions.probabilities[part], predictions.targets[part])",
        f"{SCORING}recalibration_asks_other_people_than_those_it_changes",
    ),
    _fault(
        "gain of the other over ours",
        "sign * (of(ours, weights) - of(theirs, weights))",
        "sign * (of(theirs, weights) - of(ours, weights))",
        f"{SCORING}a_gain_is_ours_over_theirs_and_of_the_same_people",
    ),
    _fault(
        "gain in area of the other over ours",
        "paired_test(ours.targets == 1, ours.probabilities[:, 1], theirs.probabilities[:, 1], ours.folds)",
        "paired_test(ours.targets == 1, theirs.probabilities[:, 1], ours.probabilities[:, 1], ours.folds)",
        f"{SCORING}a_gain_is_ours_over_theirs_and_of_the_same_people",
    ),
    _fault(
        "resamples within fold and class, where the only patient of a fold never varies",
        "        return self.targets\n",
        "        return self.folds * len(self.classes) + self.targets\n",
        f"{EVALUATION}scores.py::test_resamples_keep_the_size_of_every_class_and_not_of_its_folds",
    ),
    _fault(
        "other people's baseline fitted on the first fold's training part",
        "model = _fitted(baseline, list(range(len(cohort.subjects))), cohort)",
        "model = _fitted(baseline, list(range(60)), cohort)",
        f"{EVALUATION}baselines.py::test_other_people_are_predicted_by_what_the_whole_cohort_taught",
    ),
    _fault(
        "words of a baseline taken for missing numbers",
        "column not in TEXT_COLUMNS and _has_words(cohort, column)]",
        "column not in TEXT_COLUMNS and not _has_words(cohort, column)]",
        f"{EVALUATION}baselines.py::test_a_column_of_words_tells_what_it_knows",
    ),
    _fault(
        "the inflation meter keeps the worst epoch",
        "return max(epochs, key=lambda epoch: _rank(epochs[epoch], task))",
        "return min(epochs, key=lambda epoch: _rank(epochs[epoch], task))",
        f"{EVALUATION}inflation.py",
    ),
    _fault(
        "sensitivity and specificity exchanged in predictive values",
        "true_positive, false_positive = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)",
        "true_positive, false_positive = specificity * prevalence, (1 - sensitivity) * (1 - prevalence)",
        f"{EVALUATION}details.py::test_decisions_at_a_wanted_sensitivity_and_their_predictive_values",
    ),
    _fault(
        "the probe is asked about those it was fitted to",
        'cv=parts, method="predict_proba"',
        'cv=[(np.arange(len(targets)), np.arange(len(targets)))], method="predict_proba"',
        f"{EVALUATION}probe.py",
    ),
)

OF_DATA = (
    _fault(
        "a small share of the training part may have nobody of a class",
        "group.iloc[: max(1, round(fraction * len(group)))]",
        "group.iloc[: round(fraction * len(group))]",
        f"{DATA}the_smallest_share_still_has_a_subject_of_every_class_with_all_scans",
    ),
    _fault(
        "a share is what is left of the training part",
        "group.iloc[: max(1, round(fraction * len(group)))]",
        "group.iloc[max(1, round(fraction * len(group))) :]",
        f"{DATA}a_share_is_of_the_training_part_and_that_large",
    ),
    _fault(
        "a share is drawn from all parts",
        'rows = subjects[subjects["case_id"].isin(cases)]\n    people = people_of(rows, task)\n    shuffled',
        "rows = subjects\n    people = people_of(rows, task)\n    shuffled",
        f"{DATA}a_share_is_of_the_training_part_and_that_large",
    ),
    _fault(
        "selection is a sixth",
        "SELECTION_FRACTION = 0.2",
        "SELECTION_FRACTION = 1 / 6",
        f"{DATA}a_fifth_of_those_who_are_not_held_out_is_for_selection",
    ),
    _fault(
        "selection is all but a fifth",
        "_deal(people[members], round(1 / fraction), generator) == 0",
        "_deal(people[members], round(1 / fraction), generator) != 0",
        f"{DATA}a_fifth_of_those_who_are_not_held_out_is_for_selection",
    ),
    _fault(
        "selection drawn from everybody, the held out among them",
        "rest = people[pile != fold]",
        "rest = people",
        f"{DATA}selection_is_of_nobody_who_is_held_out_or_trained_on",
    ),
    _fault(
        "selection is trained on as well",
        '"train": rest[~selected], "selection"',
        '"train": rest, "selection"',
        f"{DATA}selection_is_of_nobody_who_is_held_out_or_trained_on",
    ),
    _fault(
        "epochs chosen on the held-out part",
        'training, compared_on = self.parts["train"], self.parts["selection"]',
        'training, compared_on = self.parts["train"], self.parts["val"]',
        f"{RUNS}an_honest_run_trains_on_train_and_chooses_on_selection_and_the_papers_run_does_not",
    ),
    _fault(
        "selection trained on",
        'training, compared_on = self.parts["train"], self.parts["selection"]',
        'training, compared_on = self.parts["train"] + self.parts["selection"], self.parts["selection"]',
        f"{RUNS}an_honest_run_trains_on_train_and_chooses_on_selection_and_the_papers_run_does_not",
    ),
    _fault(
        "parts of the first fold, whatever the fold",
        "sorted(splits[fold][part])",
        "sorted(splits[0][part])",
        f"{RUNS}an_honest_run_trains_on_train_and_chooses_on_selection_and_the_papers_run_does_not",
    ),
    _fault(
        "covariates put on the scale of the whole cohort",
        "CovariateScale.of(self._data.rows(training), self.settings.covariates, self.task)",
        "CovariateScale.of(self._data.subjects, self.settings.covariates, self.task)",
        f"{RUNS}what_inputs_are_relative_to_is_measured_on_the_training_part_alone",
    ),
    _fault(
        "covariates put on the scale of the held-out part",
        "CovariateScale.of(self._data.rows(training), self.settings.covariates, self.task)",
        "CovariateScale.of(self._data.held_out, self.settings.covariates, self.task)",
        f"{RUNS}what_inputs_are_relative_to_is_measured_on_the_training_part_alone",
    ),
    _fault(
        "the audit measures scales on the part that epochs are chosen on",
        "training, _ = data.cases_to_train_on(settings)\n    task",
        "_, training = data.cases_to_train_on(settings)\n    task",
        f"{RUNS}the_scale_of_a_number_is_measured_on_the_training_part_alone",
    ),
    _fault(
        "labels permuted by scan instead of by subject",
        """subjects["subject_id"].map(dealt)})""",
        """np.random.default_rng(seed).permutation(subjects[task.target])})""",
        f"{DATA}permuted_labels_are_dealt_to_people_and_stay_the_same_in_number",
    ),
    _fault(
        "labels drawn anew instead of permuted",
        "np.random.default_rng(seed).permutation(first.to_numpy())",
        "np.random.default_rng(seed).choice(first.to_numpy(), len(first))",
        f"{DATA}permuted_labels_are_dealt_to_people_and_stay_the_same_in_number",
    ),
    _fault(
        "of two visits equally near the later one",
        "(abs(days), days < 0)",
        "(abs(days), days > 0)",
        f"{DATA}of_two_visits_equally_near_the_earlier_one_is_taken",
    ),
    _fault(
        "the visit that is farthest away",
        "nearest = min((days for days, _ in near)",
        "nearest = max((days for days, _ in near)",
        f"{DATA}of_two_visits_equally_near_the_earlier_one_is_taken",
    ),
    _fault(
        "days from the scan to the visit",
        "return self.calendar_day - other.calendar_day",
        "return other.calendar_day - self.calendar_day",
        f"{DATA}a_later_scan_shows_an_older_person",
    ),
    _fault(
        "an odd voxel cut at the near end",
        "source.append(slice((have - length) // 2, (have - length) // 2 + length))",
        "source.append(slice((have - length + 1) // 2, (have - length + 1) // 2 + length))",
        f"{DATA}an_odd_voxel_too_many_or_too_few_is_at_the_far_end_of_every_axis",
    ),
    _fault(
        "an odd voxel padded at the near end",
        "target.append(slice((want - length) // 2, (want - length) // 2 + length))",
        "target.append(slice((want - length + 1) // 2, (want - length + 1) // 2 + length))",
        f"{DATA}an_odd_voxel_too_many_or_too_few_is_at_the_far_end_of_every_axis",
    ),
    _fault(
        "voxel sizes by rows of the affine",
        "np.linalg.norm(self.affine[:3, :3], axis=0)",
        "np.linalg.norm(self.affine[:3, :3], axis=1)",
        f"{DATA}the_size_of_a_voxel_is_its_edges_however_the_head_lies_in_the_world",
    ),
    _fault(
        "lines of all lengths weigh the same where masked voxels are filled in",
        "share = np.moveaxis(1 / gap, -1, axis)",
        "share = np.moveaxis(np.isfinite(gap) * 1.0, -1, axis)",
        f"{DATA}a_masked_voxel_follows_the_nearer_of_its_neighbours",
    ),
)

OF_TRAINING = (
    _fault(
        "branches dropped the less often the deeper they lie",
        "rates.pop(0)",
        "rates.pop()",
        f"{TRAINING}branches_are_dropped_the_more_often_the_deeper_they_lie",
    ),
    _fault(
        "the frequent class weighs more",
        'weights = counts if settings.class_weights == "counts" else 1 / counts',
        'weights = counts if settings.class_weights != "counts" else 1 / counts',
        f"{TRAINING}the_rarer_class_weighs_more_and_all_classes_the_same",
    ),
    _fault(
        "an honest run's epochs chosen by accuracy",
        'scores["accuracy" if protocol == "paper" else "auc"]',
        'scores["auc" if protocol == "paper" else "accuracy"]',
        f"{TRAINING}the_better_epoch_has_the_larger_area_then_the_smaller_loss",
    ),
    _fault(
        "of epochs of equal area the one of larger loss",
        '(0.0 if math.isnan(score) else score), -scores["loss"]',
        '(0.0 if math.isnan(score) else score), scores["loss"]',
        f"{TRAINING}the_better_epoch_has_the_larger_area_then_the_smaller_loss",
    ),
    _fault(
        "the epoch of the largest error",
        'return -scores["mae"], 0.0',
        'return scores["mae"], 0.0',
        f"{TRAINING}the_better_epoch_of_a_regression_has_the_smaller_error",
    ),
    _fault(
        "outputs given back on a scale without its mean",
        "values = in_order(cases, outputs)[:, 0] * self._deviation + self._mean",
        "values = in_order(cases, outputs)[:, 0] * self._deviation",
        f"{TRAINING}outputs_are_given_back_in_years_by_the_scale_of_the_training_part",
    ),
    _fault(
        "outputs in the order in which they came",
        "ordered[indices] = found",
        "ordered[:] = found",
        f"{TRAINING}each_case_keeps_its_own_outputs_in_whatever_order_they_come",
    ),
    _fault(
        "layers nearer to the input learn faster",
        "for depth, layer in enumerate(reversed(layers), start=1):",
        "for depth, layer in enumerate(layers, start=1):",
        f"{TRAINING}layers_nearer_to_the_input_learn_more_slowly",
    ),
    _fault(
        "a kind of task in words without its classes",
        """return f"{self.kind} of {', '.join(self.classes) or self.target}\"""",
        """return f"{self.kind} {', '.join(self.classes)}\"""",
        f"{DATA}a_task_is_named_whole_whatever_its_kind",
    ),
)

FAULTS = (*OF_SCORING, *OF_DATA, *OF_TRAINING)
