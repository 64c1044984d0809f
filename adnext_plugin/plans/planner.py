"""Writing a plans file that our trainers read and nnU-Net's own classes understand."""

import shutil
from pathlib import Path

import numpy as np
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner

from adnext_plugin.errors import SettingsError
from adnext_plugin.files import replacing, write_json
from adnext_plugin.log import without_nnunets_search
from adnext_plugin.paths import BLOCK, CONFIGURATION, PLANS_NAME, SUBJECTS_FILE, plans_file, preprocessed_dir
from adnext_plugin.plan import Plan, read_plans
from adnext_plugin.plans.listing import listing_in_linear_time
from adnext_plugin.records import to_json
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.task import image_names

NNUNET_PLANS_NAME = "nnUNetPlans"


class ADNeXtPlanner(default_experiment_planner.ExperimentPlanner):
    """Plans one configuration, `3d_fullres`, with the choices of a preset in its `adnext` block.

    Args:
        dataset: full name, such as Dataset101_AD; its fingerprint must exist.
        plan: from a preset.
        plans_name: name of the plans file.
    """

    def __init__(self, dataset: str, plan: Plan, plans_name: str = PLANS_NAME) -> None:
        with listing_in_linear_time(default_experiment_planner):
            super().__init__(dataset, preprocessor_name="ADNeXtPreprocessor", plans_name=plans_name)
        self.plan = plan

    def plan_experiment(self) -> dict:
        """Write plans, dataset.json and subjects.csv into the dataset's preprocessed folder; return the plans."""
        folder = preprocessed_dir() / self.dataset_name
        for name in ("dataset.json", SUBJECTS_FILE):
            with replacing(folder / name) as temporary:
                shutil.copyfile(Path(self.raw_dataset_folder) / name, temporary)
        spacings, shapes = (np.array(self.dataset_fingerprint[key]) for key in ("spacings", "shapes_after_crop"))
        target_mm = self.plan.preprocessing.spacing_mm
        plans = {
            "dataset_name": self.dataset_name,
            "plans_name": self.plans_identifier,
            "original_median_spacing_after_transp": np.median(spacings, axis=0).tolist(),
            "original_median_shape_after_transp": np.median(shapes, axis=0).round().astype(int).tolist(),
            "image_reader_writer": self._reader_name(),
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "experiment_planner_used": type(self).__name__,
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": self.dataset_fingerprint[
                "foreground_intensity_properties_per_channel"
            ],
            "configurations": {
                CONFIGURATION: self._configuration(np.median(np.rint(shapes * spacings / target_mm), axis=0))
            },
        }
        path = plans_file(folder, self.plans_identifier)
        if path.is_file():
            # like nnU-Net, keep configurations that a user has added
            plans["configurations"] = {**read_plans(path)["configurations"], **plans["configurations"]}
        write_json(plans, path)
        self._serve_under_default_name(plans, folder)
        return plans

    def _serve_under_default_name(self, plans: dict, folder: Path) -> None:
        """Let `nnUNetv2_train` find these plans without `-p`, unless the dataset has plans of nnU-Net's own."""
        path = folder / f"{NNUNET_PLANS_NAME}.json"
        is_free = not path.is_file() or read_plans(path).get("experiment_planner_used") == type(self).__name__
        if self.plans_identifier == PLANS_NAME and is_free:
            write_json({**plans, "plans_name": NNUNET_PLANS_NAME}, path)

    def _reader_name(self) -> str:
        """What nnU-Net is to read the raw images with.

        Raises:
            SettingsError: `dataset.json` names none that it has.
        """
        try:
            with without_nnunets_search():
                name: str = self.determine_reader_writer().__name__
        except Exception as error:  # nnU-Net looks up whatever the file says, and fails in many ways
            keys = ("overwrite_image_reader_writer", "file_ending")
            said = ", ".join(f"{key}={self.dataset_json.get(key)!r}" for key in keys)
            path = Path(self.raw_dataset_folder) / "dataset.json"
            raise SettingsError(f"{path}: nnU-Net has no reader for {said}; import the dataset again") from error
        return name

    def _configuration(self, median_shape: np.ndarray) -> dict:
        images = len(image_names(self.dataset_json, f"{self.raw_dataset_folder}/dataset.json"))
        image_fn, image_kwargs, mask_fn, mask_kwargs = self.determine_resampling()
        probability_fn, probability_kwargs = self.determine_segmentation_softmax_export_fn()
        return {
            "data_identifier": self.generate_data_identifier(CONFIGURATION),
            "preprocessor_name": self.preprocessor_name,
            "batch_size": self.plan.training.get("batch_size", TrainerSettings().batch_size),
            "patch_size": list(self.plan.preprocessing.input_size_voxels),
            "median_image_size_in_voxels": median_shape.tolist(),
            "spacing": list(self.plan.preprocessing.spacing_mm),
            "normalization_schemes": ["ZScoreNormalization"] * images,
            "use_mask_for_norm": [True] * images,
            "resampling_fn_data": image_fn.__name__,
            "resampling_fn_seg": mask_fn.__name__,
            "resampling_fn_data_kwargs": image_kwargs,
            "resampling_fn_seg_kwargs": mask_kwargs,
            "resampling_fn_probabilities": probability_fn.__name__,
            "resampling_fn_probabilities_kwargs": probability_kwargs,
            # the network is in the adnext block; nnU-Net only asks that the key exists
            "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
            "batch_dice": False,
            BLOCK: to_json(self.plan),
        }
