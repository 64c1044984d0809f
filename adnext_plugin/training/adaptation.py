"""What nnU-Net's commands for pre-trained networks need to know of an encoder: nnssl's adaptation plan.

`nnUNetv2_preprocess_like_nnssl` and `nnUNetv2_train_pretrained` (nnU-Net since July 2026) read it from a checkpoint or
from a folder of the Hugging Face hub. They build networks by name, of which ResEnc-L is the one that we have, too.
"""

from typing import Any

from adnext_plugin.plan import Plan

PLAN_FILE, CHECKPOINT_FILE = "adaptation_plan.json", "checkpoint_final.pth"  # what they look for in a folder
KNOWN = {"resenc_l": "ResEncL"}  # networks by our name, and by theirs


def adaptation_plan(plan: Plan, dataset: str) -> dict[str, Any] | None:
    """The plan of an encoder; None of a network that nnU-Net does not build.

    Args:
        plan: that it was trained with.
        dataset: that it was trained on.
    """
    name = KNOWN.get(plan.network.name or "")
    if name is None:
        return None
    preprocessing = plan.preprocessing
    spacing, patch = list(preprocessing.spacing_mm), list(plan.network_input_voxels)
    resampling = "resample_data_or_seg_to_shape"
    kwargs = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnsslPlans_onemmiso",
        "preprocessor_name": "DefaultPreprocessor",
        "spacing_style": "onemmiso",
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [True],
        "resampling_fn_data": resampling,
        "resampling_fn_data_kwargs": kwargs,
        "resampling_fn_mask": resampling,
        "resampling_fn_mask_kwargs": {**kwargs, "is_seg": True},
        "spacing": spacing,
        "patch_size": patch,
    }
    return {
        "architecture_plans": {"arch_class_name": name, "arch_kwargs": None, "arch_kwargs_requiring_import": None},
        "pretrain_plan": {
            "dataset_name": dataset,
            "plans_name": "nnsslPlans",
            "original_median_spacing_after_transp": spacing,
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {"onemmiso": configuration},
            "experiment_planner_used": "FixedResEncUNetPlanner",
        },
        "pretrain_num_input_channels": 1,
        "recommended_downstream_patchsize": patch,
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
        "key_to_lpe": None,
    }
