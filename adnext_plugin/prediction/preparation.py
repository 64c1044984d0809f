"""A new scan on its way to the network's input, as the plan of a model says."""

from dataclasses import replace

from adnext_plugin.preprocessing.brains.brain_masks import MaskJob, extract_mask, mask_file
from adnext_plugin.preprocessing.preprocessor import CaseJob, PreparedCase, prepare_case


def prepare_scan(job: CaseJob, device: str = "cpu") -> PreparedCase:
    """Extract the brain where the plan has a method for it, then prepare and store the scan.

    The mask is left beside the prepared scan, and named in its properties.

    Args:
        job: the scan.
        device: cpu, cuda or mps, for the extraction.

    Returns:
        What `prepare_case` says of it.

    Raises:
        ImageError: the scan is unusable or holds no brain.
        SettingsError: the method is not installed.
        WeightsError: its weights are not those that were published.
    """
    if job.settings.brain_extraction == "none":
        return prepare_case(job)
    folder = job.folder / "brain_masks"
    folder.mkdir(parents=True, exist_ok=True)
    found = extract_mask(MaskJob(case=job.case, image=job.image, folder=folder, settings=job.settings, device=device))
    mask = None if found["left_alone"] else mask_file(folder, job.case)
    try:
        return prepare_case(replace(job, mask=mask))
    except BaseException:
        if mask is not None:
            mask.unlink()
        raise
