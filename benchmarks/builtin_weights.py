"""Makes the weights that come with the package: a brain age, learned from IXI and the young of OASIS-1.

    python benchmarks/builtin_weights.py --work DIR --set epochs=12

The people are those of brain_age.py: everyone of IXI whose age is known, and the normal people of OASIS-1 under 60, so
that nobody of OASIS-1 from 60 on, and so nobody of the task of AD against normal, is seen. The networks of the folds
are packed together. The people whom a fold holds out say what its network is worth, raw heads of ds000011 what all are
worth elsewhere. --folds takes some of the folds, where time is short (the package has that of --folds 0). Networks that
are finished are not trained again. The scans are those described in the data's own README; ADNEXT_TEST_DATA names their
folder. Writes adnext_plugin/builtin/brain_age (--output: into another folder), and
benchmarks/results/builtin_brain_age.json with every number.
"""

import argparse
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import brain_age
import numpy as np
import pandas as pd
import torch
from oasis_ad import DEFAULT_DATA
from pipeline import dataset_folder, run_command, run_of, set_options, use_folders

from adnext_plugin.builtin.card import CardScore, ModelCard, Source, card_page
from adnext_plugin.builtin.weights import CARD, FOLDER, MODEL, published_key
from adnext_plugin.files import read_json, write_json
from adnext_plugin.images import file_sha256
from adnext_plugin.networks.costs import count_parameters
from adnext_plugin.paths import BLOCK, SPLITS_FILE
from adnext_plugin.prediction.built_networks import possible_networks
from adnext_plugin.prediction.bundle import MANIFEST, install_bundle, write_bundle
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.model import Model
from adnext_plugin.prediction.training_cases import with_ranges
from adnext_plugin.records import to_json
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.subjects import read_dataset
from adnext_plugin.training.checkpoint_notes import CheckpointNotes, notes_of
from adnext_plugin.training.corpus import corpus_with_key
from adnext_plugin.training.plain_tensors import write_tensors
from adnext_plugin.training.provenance import provenance
from adnext_plugin.training.weights import read_checkpoint

NAME, RESULT = "brain_age", Path(__file__).parent / "results" / "builtin_brain_age.json"
NUMBER = str(brain_age.EVERYONE[0])
RESAMPLES = 2000


def main() -> None:
    """Train, score, pack."""
    arguments = _parse()
    work, data = arguments.work, Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA))
    use_folders(work)
    brain_age.prepare(brain_age.EVERYONE, brain_age.corpus(data), work)
    for fold in arguments.folds:
        run_command("adnext_train", NUMBER, "3d_fullres", fold, "-tr", brain_age.TRAINER, *set_options(arguments.set))
    run = RunFolder(work / "nnUNet_results" / dataset_folder(*brain_age.EVERYONE) / run_of(brain_age.TRAINER))
    dataset = work / "nnUNet_preprocessed" / dataset_folder(*brain_age.EVERYONE)
    model = with_ranges(read_run(run, arguments.folds), dataset)
    folder = arguments.output / NAME
    shutil.rmtree(folder, ignore_errors=True)
    _pack(model, run, dataset, folder / MODEL)
    scores, seconds = _scores(run, arguments.folds, work, data, folder / MODEL)
    card = _card(model, _seen(dataset, arguments.folds), scores, arguments)
    write_json(to_json(card), folder / CARD)
    (folder / "MODEL_CARD.md").write_text(card_page(card))
    weight = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    found = {"made_by": provenance(), "card": to_json(card), "seconds_for_a_raw_head": seconds, "bytes": weight}
    write_json(found, arguments.result)
    print(json.dumps(found, indent=1))


def _seen(dataset: Path, folds: list[str]) -> pd.DataFrame:
    """The rows that networks were trained or chosen on."""
    splits = read_json(dataset / SPLITS_FILE)
    cases = {case for fold in folds for part in ("train", "selection") for case in splits[int(fold)][part]}
    subjects = read_dataset(dataset)[1]
    return subjects[subjects["case_id"].isin(cases)]


def _notes(run: RunFolder, fold: str, dataset: Path) -> CheckpointNotes:
    """What a network's checkpoint says of itself, with whom it has seen under the published key."""
    path = run.fold(fold).checkpoint_final
    seen = corpus_with_key(_seen(dataset, [fold]), dataset.name, published_key())
    return replace(notes_of(read_checkpoint(path), path), pretraining_data=seen)


def _pack(model: Model, run: RunFolder, dataset: Path, folder: Path) -> None:
    """An installed bundle whose networks also carry their notes."""
    archive = folder.parent / "bundle.zip"
    write_bundle(model, archive)
    install_bundle(archive, folder, overwrite=True)
    archive.unlink()
    manifest = read_json(folder / MANIFEST)
    for description, fold in zip(model.description.folds, model.folds, strict=True):
        weights = folder / _file_of(description.name)
        write_tensors(fold.weights, weights, {BLOCK: _notes(run, description.name, dataset).block()})
        manifest["files"][weights.name] = {"bytes": weights.stat().st_size, "sha256": file_sha256(weights)}
    write_json(manifest, folder / MANIFEST)


def _file_of(fold: str) -> str:
    return f"fold_{fold}.safetensors"


def _scores(run: RunFolder, folds: list[str], work: Path, data: Path, model: Path) -> tuple[list[CardScore], float]:
    """On held-out people of the folds, and on raw heads; and seconds for one of these."""
    tables = [pd.read_csv(run.fold(fold).predictions_file) for fold in folds]
    held_out = pd.concat([table[table["part"] == "val"] for table in tables])
    is_ixi = held_out["subject_id"].str.startswith("IXI")
    found = [
        _score("held-out people of the same data", held_out),
        _score("those of IXI among them", held_out[is_ixi]),
        _score("those of OASIS-1, all under 60, among them", held_out[~is_ixi]),
        _score("those of IXI from 60 on among them", held_out[is_ixi & (held_out["target"] >= 60)]),
    ]
    heads = pd.read_csv(data / "bids_ds000011" / "participants.tsv", sep="\t").rename(columns={"age": "target"})
    names = heads["participant_id"]
    heads = heads.assign(
        subject_id=names.str.replace("sub-", "ds000011-"),
        file=[str(next((data / "bids_ds000011" / name).rglob("*_T1w.nii.gz"))) for name in names],
    )
    predicted, seconds = _predicted(heads, work / "heads", model)
    found.append(_score("raw heads of ds000011 (another scanner, 19 to 35 years)", predicted))
    return found, seconds / len(heads)


def _predicted(people: pd.DataFrame, folder: Path, model: Path) -> tuple[pd.DataFrame, float]:
    """People with what the packed model says of them, and the seconds it took."""
    folder.mkdir(parents=True, exist_ok=True)
    people = people.assign(session="M00")
    people[["subject_id", "session", "file"]].to_csv(folder / "scans.csv", index=False)
    started = time.monotonic()
    run_command(
        "adnext_predict", "-i", str(folder / "scans.csv"), "-o", str(folder), "-m", str(model), "--file-column", "file"
    )
    seconds = time.monotonic() - started
    table = pd.read_csv(folder / "predictions.csv")
    answers = {_plain(case): answer for case, answer in zip(table["case_id"], table["prediction"], strict=True)}
    return people.assign(prediction=[answers[_plain(f"{one}_M00")] for one in people["subject_id"]]), seconds


def _plain(name: str) -> str:
    """Letters and digits of the name of a person and session, for cases are called after them."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _score(of: str, people: pd.DataFrame) -> CardScore:
    """Mean absolute error, its interval over people, and that of the mean of the ages."""
    difference = (people["prediction"] - people["target"]).to_numpy(dtype=float)
    errors = np.abs(difference)
    drawn = np.random.default_rng(42).integers(len(errors), size=(RESAMPLES, len(errors)))
    low, high = np.percentile(errors[drawn].mean(axis=1), (2.5, 97.5))
    ages = people["target"].to_numpy(dtype=float)
    correlation = (
        "" if len(ages) < 10 else f", correlation with age {np.corrcoef(ages, people['prediction'])[0, 1]:.2f}"
    )
    return CardScore(
        of=of,
        people=len(people),
        name="mean absolute error",
        value=round(float(errors.mean()), 2),
        low=round(float(low), 2),
        high=round(float(high), 2),
        unit="years",
        guessing=round(float(np.abs(ages - ages.mean()).mean()), 2),
        note=f"mean difference {difference.mean():+.1f} years{correlation}.",
    )


def _card(model: Model, subjects: pd.DataFrame, scores: list[CardScore], arguments: argparse.Namespace) -> ModelCard:
    ages, is_ixi = subjects["age"].astype(float), subjects["subject_id"].str.startswith("IXI")
    preprocessing = model.description.plan.preprocessing

    def source(name: str, chosen: pd.Series, which: str, terms: str, cite: str) -> Source:
        low, high = ages[chosen].min(), ages[chosen].max()
        return Source(
            name=name,
            people=int(subjects[chosen]["subject_id"].nunique()),
            scans=int(chosen.sum()),
            which=f"{which}; {low:.0f} to {high:.0f} years",
            terms=terms,
            cite=cite,
        )

    network = next(iter(possible_networks(model.description)))
    return ModelCard(
        name=NAME,
        title="Brain age of a T1-weighted scan, and an encoder to begin with",
        answers="The age in years that the brain looks like.",
        trainer=model.description.trainer,
        encoder=_file_of(model.description.folds[0].name),
        network="AD-NeXt-T with a convolutional stem",
        parameters=count_parameters(network),
        spacing_mm=preprocessing.spacing_mm,
        input_size_voxels=preprocessing.input_size_voxels,
        prepared="Raw heads and extracted brains are taken as they are: a head's brain is extracted by deepbet, "
        "intensities are standardised within the brain.",
        trained=f"Of four folds, fold {', '.join(arguments.folds)}; "
        f"{', '.join(arguments.set) or 'the recipe as it is'}. Made by benchmarks/builtin_weights.py.",
        precision="Full precision; half of it would change answers by up to 1.8 years.",
        sources=(
            source(
                "IXI",
                is_ixi,
                "of 181 whose age is known, those whom these folds learn from",
                "CC BY-SA 3.0",
                "brain-development.org",
            ),
            source(
                "OASIS-1",
                ~is_ixi,
                "of 217 people under 60 without a CDR above 0, whom these folds learn from, first sessions. Nobody "
                "from 60 on was seen, and so nobody of the task of AD against normal",
                "OASIS data use terms: cite, and identify nobody",
                "Marcus et al. 2007, J Cogn Neurosci 19:1498",
            ),
        ),
        scores=tuple(scores),
        limits=(
            "Answers are drawn to the middle: the young are taken for older, the old for younger.",
            f"Few of the old were learned from: {(ages >= 65).sum()} of {len(ages)} were 65 or older, all of IXI.",
            "On a scanner it does not know it may be off by more, and all in one direction, as on the heads above. "
            "Compare people of one scanner, or correct by healthy people of known age.",
            "Voxels of 3.2 mm: what is smaller does not count.",
            "Two scanners, that of IXI's site Hammersmith and that of OASIS-1, and healthy volunteers. Children and "
            "illness were not tried, other scanners only on the heads above.",
            "For research. It is no medical device, and an old-looking brain is no diagnosis.",
        ),
        licence="CC BY-SA 3.0 for the weights, as IXI asks of what is made of it; OASIS-1's terms of use go with them",
        tags=("brain age", "MRI", "T1w", "AD-NeXt"),
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings for adnext_train")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2", "3"], help="to train and pack (default: all)")
    parser.add_argument("--output", type=lambda text: Path(text).absolute(), default=FOLDER)
    parser.add_argument("--result", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
