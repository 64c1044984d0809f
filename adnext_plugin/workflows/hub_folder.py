"""An encoder for others: one folder that the Hugging Face hub, nnU-Net's pre-training commands and asparagus read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.builtin.weights import card_of, is_builtin, model_folder, weights_file
from adnext_plugin.errors import SettingsError, WeightsError
from adnext_plugin.workflows.common import Tell, say_nothing

if TYPE_CHECKING:
    from adnext_plugin.plan import Plan

FRESH_HEAD = "The head is not trained: take the encoder, and begin a task of your own."


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run's checkpoint, of whatever trainer, or `builtin:NAME`; and the folder to make. `licence`: of the weights."""

    weights: str
    folder: Path
    licence: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Result:
    """The folder, its files, and who reads them."""

    folder: Path
    files: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What a checkpoint says of the network in it."""

    plan: "Plan"
    dataset: str
    in_channels: int
    tensors: dict[str, Any]
    page: str
    target_scale: dict[str, float] | None


def write_hub_folder(request: Request, tell: Tell = say_nothing) -> Result:
    """Write config.json, model.safetensors, README.md and checkpoint_final.pth, and what nnU-Net needs where it can.

    Raises:
        PathsError: there is no such file, or the folder exists.
        UnknownNameError: no such weights come with the package.
        WeightsError: the checkpoint is damaged, or does not say of which network it is.
        SettingsError: the package huggingface_hub is not installed.
    """
    from adnext_plugin.files import refuse_existing, replacing_folder, write_json
    from adnext_plugin.training.adaptation import CHECKPOINT_FILE, PLAN_FILE, adaptation_plan
    from adnext_plugin.training.checkpoints import write_checkpoint

    refuse_existing(request.folder, request.overwrite)
    known = _builtin(request.weights) if is_builtin(request.weights) else _of_run(Path(request.weights), request)
    network, is_whole = _network(known, request.weights)
    theirs = adaptation_plan(known.plan, known.dataset)
    readers = ["huggingface_hub", "adnext_plugin"]
    with replacing_folder(request.folder) as folder:
        network.save_pretrained(folder)
        page = known.page if is_whole else f"{known.page}{FRESH_HEAD}\n"
        (folder / "README.md").write_text(page, encoding="utf-8")
        # plain tensors, numbers and texts, so that every safe reader takes it
        content: dict[str, Any] = {"network_weights": _encoder(known.tensors), "citations": []}
        if theirs is not None:
            content["nnssl_adaptation_plan"] = theirs
            write_json(theirs, folder / PLAN_FILE)
            readers += ["nnUNetv2_train_pretrained", "asparagus"]
        write_checkpoint(content, folder / CHECKPOINT_FILE)
        files = tuple(sorted(file.name for file in folder.iterdir()))
    tell(f"{request.folder}: {', '.join(files)}; read by {', '.join(readers)}")
    return Result(folder=request.folder, files=files, readers=tuple(readers))


def _network(known: _Known, where: str) -> tuple[Any, bool]:
    """The network as the hub keeps it, and whether all of it was trained: a head that the file has not is a fresh one.

    Raises:
        WeightsError: a tensor of the encoder is missing.
    """
    import torch

    from adnext_plugin.records import to_json

    try:
        from adnext_plugin.networks.hub import HubNetwork
    except ModuleNotFoundError as error:
        raise SettingsError("--to-hub needs another package: pip install 'adnext_plugin[hub]'") from error

    plan = known.plan
    if plan.network.name is None:
        raise WeightsError(f"{where} does not say of which network it is")
    task = None if plan.task is None or plan.task.kind == "unlabelled" else plan.task
    torch.manual_seed(0)
    network = HubNetwork(
        network=plan.network.name,
        options=dict(plan.network.options),
        in_channels=known.in_channels,
        num_outputs=2 if task is None else task.num_outputs,
        input_size_voxels=list(plan.network_input_voxels),
        preprocessing=to_json(plan.preprocessing),
        task=None if task is None else to_json(task),
        target_scale=known.target_scale,
    )
    own = network.network.state_dict()
    found = {name: tensor for name, tensor in known.tensors.items() if name in own and tensor.shape == own[name].shape}
    lacking = [name for name in own if name not in found and name.startswith("encoder.")]
    if lacking:
        raise WeightsError(f"{where} lacks {lacking[0]} of the encoder of {plan.network.name}")
    network.network.load_state_dict({**own, **found})
    return network, len(found) == len(own)


def _encoder(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith("encoder.")}


def _builtin(name: str) -> _Known:
    from adnext_plugin.builtin.card import card_page
    from adnext_plugin.prediction.bundle import read_bundle
    from adnext_plugin.records import to_json
    from adnext_plugin.training.weights import read_checkpoint

    model = read_bundle(model_folder(name)).description
    scale = model.folds[0].target_scale
    return _Known(
        plan=model.plan,
        dataset=model.dataset,
        in_channels=model.in_channels,
        tensors=read_checkpoint(weights_file(name, "all"))["network_weights"],
        page=card_page(card_of(name)),
        target_scale=None if scale is None else to_json(scale),
    )


def _of_run(path: Path, request: Request) -> _Known:
    from adnext_plugin.plan import plan_of
    from adnext_plugin.records import to_json
    from adnext_plugin.training.checkpoint_notes import notes_of
    from adnext_plugin.training.weights import read_checkpoint

    checkpoint = read_checkpoint(path)
    notes, arguments = notes_of(checkpoint, path), checkpoint.get("init_args", {})
    try:
        plans, configuration = arguments["plans"], arguments["configuration"]
        channels = len(arguments["dataset_json"]["channel_names"])
        plan = plan_of(plans, configuration, str(path))
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path} does not say what it was trained on; give a checkpoint of a run") from error
    # of a network with covariates
    tensors = {name.removeprefix("network."): tensor for name, tensor in checkpoint["network_weights"].items()}
    licence = request.licence or "not stated"
    return _Known(
        plan=plan,
        dataset=str(plans.get("dataset_name", "")),
        in_channels=channels,
        tensors=tensors,
        page=_page(plan, str(checkpoint.get("trainer_name", "")), licence),
        target_scale=None if notes.target_scale is None else to_json(notes.target_scale),
    )


def _page(plan: "Plan", trainer: str, licence: str) -> str:
    import json

    preprocessing = plan.preprocessing
    size = " × ".join(map(str, plan.network_input_voxels))
    spacing = " × ".join(f"{edge:g}" for edge in preprocessing.spacing_mm)
    return "\n".join(
        [
            "---",
            "library_name: adnext_plugin",
            f"license_name: {json.dumps(licence)}",
            'tags: ["MRI", "brain"]',
            "---",
            f"# {plan.network.name}\n",
            f"Trained as `{trainer}`. Input: {size} voxels of {spacing} mm (z, y, x); config.json has the rest.\n",
            "```python",
            "from adnext_plugin.networks.hub import HubNetwork",
            'network = HubNetwork.from_pretrained("THIS_FOLDER_OR_REPOSITORY")',
            "```\n",
        ]
    )
