"""What is left of a fold by the commands before: nothing, a run to go on with, a finished one, or another run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adnext_plugin.environment import settings_from_environment
from adnext_plugin.files import read_json
from adnext_plugin.paths import DATASET_FILE
from adnext_plugin.plan import Plan
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.run_records import read_run_info
from adnext_plugin.settings import AUTO, PretrainingSettings, RunSettings

if TYPE_CHECKING:
    from adnext_plugin.trainers.lifecycle import RunTrainer

SHOWN = 3  # differences in a line


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a fold is for the run that is asked for, and a line that says it, if there is anything to say."""

    state: Literal["new", "unfinished", "finished", "another"]
    line: str | None = None


@dataclass(frozen=True, kw_only=True)
class AskedRun:
    """A run as a command asks for it: the trainer, its settings and plan as they would be resolved now."""

    trainer: "type[RunTrainer]"
    configuration: str
    settings: RunSettings
    plan: Plan

    @classmethod
    def of(cls, trainer: "type[RunTrainer]", plans_file: Path, configuration: str) -> "AskedRun":
        """As the trainer would have it, of a plans file in a preprocessed dataset and `ADNEXT_SETTINGS`.

        Raises:
            SettingsError: as the trainer would.
        """
        from adnext_plugin.plan import read_plans
        from adnext_plugin.training.plan_resolution import resolve_plan

        plan, settings = resolve_plan(
            read_plans(plans_file),
            configuration,
            read_json(plans_file.parent / DATASET_FILE),
            trainer.network_settings,
            trainer.settings_with,
            trainer.plan_key,  # type: ignore[arg-type]  # a class attribute in every subclass
            takes_network_options=trainer.takes_network_options,
        )
        return cls(trainer=trainer, configuration=configuration, settings=settings, plan=plan)

    def standing(self, fold: FoldFolder) -> Standing:
        """How far a fold is.

        Raises:
            WeightsError: something was begun there, and no state of it can be read.
        """
        from adnext_plugin.training.states import newest_state

        found = newest_state(fold)
        if found is None:
            return Standing(state="new")
        differences = self._differences(found.checkpoint, found.path)
        if differences:
            shown = ", ".join(differences[:SHOWN]) + (", ..." if len(differences) > SHOWN else "")
            line = f"fold {fold.name}: the run there had {shown}. It is set aside, and the fold begins anew"
            return Standing(state="another", line=line)
        if found.path == fold.checkpoint_final and fold.summary_file.is_file():
            return Standing(state="finished", line=f"fold {fold.name} is finished already; --restart trains it again")
        epochs = f"{found.checkpoint['current_epoch']} of {self.settings.epochs} epochs"
        return Standing(state="unfinished", line=f"fold {fold.name} goes on after {epochs}")

    def _differences(self, checkpoint: Mapping[str, Any], path: Path) -> list[str]:
        """What makes a checkpoint one of another run, each in a few words; empty if it is of this one."""
        from adnext_plugin.plan import plan_of
        from adnext_plugin.training.checkpoint_notes import find_notes
        from adnext_plugin.training.shared_settings import shared

        notes, fold = find_notes(checkpoint, path), FoldFolder(path.parent).name
        if notes is None or checkpoint["trainer_name"] != self.trainer.__name__:
            return ["another trainer"]
        then = self.trainer.saved_settings(notes.settings, f"{path}, settings")
        plan = plan_of(checkpoint["init_args"]["plans"], self.configuration, str(path))
        parts = _parts(plan)
        return [
            # of the file to begin with, a run remembers name and content alone
            *_changed(_values(shared(then, fold)), _asked_values(shared(self.settings, fold))),
            *_changed(parts, {**dict.fromkeys(parts), **_parts(self.plan)}),
        ]


def is_finished(fold: FoldFolder) -> bool:
    """Whether nothing is left to do, which a setting asked for now may change: more epochs, other weights to judge."""
    if not fold.checkpoint_final.is_file() or not fold.summary_file.is_file():
        return False
    settings = read_run_info(fold.run_file).settings if fold.run_file.is_file() else {}
    settings |= settings.get("options", {})  # of an objective, which may stand among the settings that are asked for
    from adnext_plugin.training.shared_settings import shared_value

    asked = {name: shared_value(name, value, fold.name) for name, value in settings_from_environment().items()}
    return all(shared_value(name, settings.get(name, value), fold.name) == value for name, value in asked.items())


def name_as_nnunet_does(fold: FoldFolder) -> None:
    """Give the only state that is left the name that nnU-Net looks for when it continues a run."""
    known = (fold.checkpoint_final, fold.checkpoint_latest, fold.checkpoint_best)
    if fold.checkpoint_previous.is_file() and not any(path.is_file() for path in known):
        fold.checkpoint_previous.rename(fold.checkpoint_latest)


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_short(then.get(name))} (now {_short(now[name])})" for name in now if then.get(name) != now[name]]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _values(settings: RunSettings) -> dict[str, Any]:
    """Settings by name, those of an objective among the others."""
    values = asdict(settings)
    return values.pop("options", {}) | values


def _asked_values(settings: RunSettings) -> dict[str, Any]:
    # what is decided when a run begins fits whatever was decided
    values = {name: value for name, value in _values(settings).items() if value != AUTO}
    if not isinstance(settings, PretrainingSettings):
        return values
    # what an objective is to find out when a run begins is None until then
    return {name: value for name, value in values.items() if value is not None or name not in settings.options}


def _parts(plan: Plan) -> dict[str, Any]:
    """What a network and its input are made of; settings of trainers are compared as they were resolved."""
    from adnext_plugin.records import to_json

    content = to_json(replace(plan, training={}, pretraining={}))
    content["network"] |= content["network"].pop("options")
    blocks = {name: content.pop(name) or {} for name in ("preprocessing", "network", "task")}
    return {f"{block}.{name}": value for block, values in blocks.items() for name, value in values.items()} | content
