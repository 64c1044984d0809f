"""Which trainer a cohort and a machine call for, in words, before anything is trained; and the recipe it speaks of."""

from adnext_plugin.settings import TrainerSettings

# of trainers/variants/small.py; it stands here so that planning need not import trainers, which takes seconds
SMALL = TrainerSettings(
    epochs=20,
    batch_size=8,
    learning_rate=3e-3,
    warmup_epochs=2,
    weight_decay=0.05,
    augmentation="inside",
    precise_batch_norm=True,
    # the rate has fallen to 0 by then; the best of 20 epochs on a few dozen people is as often as not a lucky early one
    evaluate_with="final",
)

FEW_SUBJECTS = 1000  # to learn from; the recipe for few scans was found with 90 to 220 (docs/recipes.md)
# of an epoch of AD-NeXt-T with the convolutional stem, precise batch norm and `selection`, on an AMD EPYC: 5.8 s with
# 44 scans of 48×56×48 voxels, 15 s with 59 of 64³
SECONDS_PER_VOXEL_AND_THREAD = 0.9e-6
HOURS_WORTH_A_COARSER_GRID = 1


def recommended_trainer(learn_from: int, *, has_gpu: bool) -> str:
    """The trainer to begin with.

    Args:
        learn_from: training subjects of a fold.
        has_gpu: to train on.
    """
    return "ADNeXtTrainer_B" if learn_from >= FEW_SUBJECTS and has_gpu else "ADNeXtTrainer_T_Small"


def advice(learn_from: int, voxels: int, epochs: int, folds: int, threads: int | None) -> str:
    """Trainer to begin with, and without a GPU, how long it will take.

    Args:
        learn_from: training subjects of a fold.
        voxels: of the network's input.
        epochs: of `ADNeXtTrainer_T_Small`.
        folds: of the cross-validation.
        threads: of the CPU to train on; None where there is a GPU.
    """
    trainer = recommended_trainer(learn_from, has_gpu=threads is None)
    found = f"Each fold learns from {learn_from} subjects"
    if learn_from < FEW_SUBJECTS:
        found += f": begin with -tr {trainer}, as the paper's recipe hardly learns from so few"
    elif threads is None:
        return f"{found}: begin with -tr {trainer}, pre-trained (adnext_pretrain) if there are unlabelled scans."
    else:
        found += f": without a GPU, begin with -tr {trainer}"
    found += " (docs/recipes.md)."
    if threads is None:
        return found
    hours = learn_from * voxels * epochs * folds * SECONDS_PER_VOXEL_AND_THREAD / threads / 3600
    found += f" On this CPU, {folds} folds of it take about {_duration(hours)}"
    if hours > HOURS_WORTH_A_COARSER_GRID:
        coarse = "with twice the --spacing and half the --input-size, as --preset coarse has them"
        return f"{found}; {coarse}, about {_duration(hours / 8)}."
    return f"{found}."


def _duration(hours: float) -> str:
    return f"{hours:.0f} hours" if hours >= 2 else f"{max(2, hours * 60):.0f} minutes"
