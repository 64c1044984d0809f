"""Gradients of the score by the voxels: integrated from an image without a brain, or averaged over noisy copies."""

import warnings
from typing import ClassVar, Literal

import numpy as np
import torch

from adnext_plugin.errors import AdnextWarning, SettingsError
from adnext_plugin.explanations.fill import Fill, background, brain_of, filled_with
from adnext_plugin.explanations.method import ExplainedNetwork, Explanation, Progress
from adnext_plugin.records import record

CROWDING = 4  # power of the way from the baseline to the image by which steps are spaced
SMALLEST_DIFFERENCE = 1e-3  # of scores, below which a share of it says nothing


@record
class IntegratedGradientsSettings:
    """The way from the baseline to the image."""

    # where the way begins: an image of its background, of 0, of the mean over the brain, or of this number
    baseline: Fill = "background"
    steps: int = 16  # images on the way; twice as many as long as the map does not add up
    most_steps: int = 256
    tolerance: float = 0.01  # of the difference of the scores, by which the sum of the map may miss it
    batch_size: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.steps <= self.most_steps:
            raise SettingsError(f"steps must be from 2 to most_steps, {self.most_steps}, got {self.steps}")
        if not 0 < self.tolerance < 1:
            raise SettingsError(f"tolerance must be in (0, 1), got {self.tolerance}")
        if self.batch_size < 1:
            raise SettingsError(f"batch_size must be at least 1, got {self.batch_size}")


class IntegratedGradients(Explanation):
    """Divides the score, less that of a baseline, among the voxels: the map adds up to that difference.

    Gradients along the straight way from the baseline to the image, averaged, times what the image has more than the
    baseline. The mean is taken by Gauss and Legendre's rule, with more steps near the baseline. Whether the map adds up
    is checked: where it misses the difference by more than `tolerance`, twice as many steps are taken, and in the end a
    warning says by how much it still does.

    Source: Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks.
    """

    name: ClassVar[str] = "integrated_gradients"
    settings_type: ClassVar[type] = IntegratedGradientsSettings

    def compute(self, network: ExplainedNetwork, image_czyx: np.ndarray, target: int, progress: Progress) -> np.ndarray:
        """What of the difference of the scores each voxel is worth, summed over channels, (Z, Y, X)."""
        settings = self.settings
        start = np.broadcast_to(filled_with(settings.baseline, image_czyx), image_czyx.shape).astype(np.float32)
        image, baseline = network.tensor(image_czyx), network.tensor(start)
        with torch.no_grad():
            difference = float(network.scores(image, target) - network.scores(baseline, target))
        allowed = settings.tolerance * max(abs(difference), SMALLEST_DIFFERENCE)
        steps = settings.steps
        while True:
            map_zyx = self._mean_gradient(network, baseline, image, target, steps, progress)
            missed = abs(float(map_zyx.sum()) - difference)
            if missed <= allowed or 2 * steps > settings.most_steps:
                break
            steps *= 2
        if missed > allowed:
            warnings.warn(
                f"integrated gradients add up to {map_zyx.sum():.4g}, but the scores differ by {difference:.4g}; take "
                f"more than {steps} steps (most_steps)",
                AdnextWarning,
                stacklevel=2,
            )
        return map_zyx

    def _mean_gradient(
        self,
        network: ExplainedNetwork,
        baseline: torch.Tensor,
        image: torch.Tensor,
        target: int,
        steps: int,
        progress: Progress,
    ) -> np.ndarray:
        places, shares = np.polynomial.legendre.leggauss(steps)
        # float64, for the map's sum is looked at to some digits
        total = torch.zeros_like(image[0], dtype=torch.float64 if image.device.type != "mps" else torch.float32)
        for first in range(0, steps, self.settings.batch_size):
            some = slice(first, first + self.settings.batch_size)
            # closer together near the baseline: where an image is nearly empty, norms make the score change fastest
            way = (places[some] + 1) / 2
            along = image.new_tensor(way**CROWDING)[:, None, None, None, None]
            gradients = gradient(network, baseline + along * (image - baseline), target)
            weights = image.new_tensor(shares[some] / 2 * CROWDING * way ** (CROWDING - 1))
            total += torch.einsum("b,bczyx->czyx", weights, gradients)
            progress(min(first + self.settings.batch_size, steps), steps)
        return ((image - baseline)[0] * total).sum(dim=0).cpu().numpy()


@record
class SmoothGradSettings:
    """The noise, and how its copies are put together."""

    samples: int = 16  # noisy copies
    noise_share: float = 0.15  # standard deviation of the noise, as a share of the range of intensities
    # mean of the gradients, or of their sizes: the latter shows what matters, whatever it speaks for
    mean_of: Literal["gradients", "sizes"] = "sizes"
    seed: int = 0
    batch_size: int = 4

    def __post_init__(self) -> None:
        if self.samples < 1 or self.batch_size < 1:
            raise SettingsError(f"samples and batch_size must be at least 1, got {self.samples} and {self.batch_size}")
        if not 0 <= self.noise_share < np.inf:
            raise SettingsError(f"noise_share must be 0 or more, got {self.noise_share}")


class SmoothGrad(Explanation):
    """Mean gradient of the score by the voxels, over copies of the image with noise in the brain.

    Without noise and of one sample it is the plain gradient (Simonyan et al. 2014). Noise is left out of the
    background, where no image that the network was trained on has any, and the map is 0 there.

    Source: Smilkov et al. 2017, SmoothGrad: removing noise by adding noise.
    """

    name: ClassVar[str] = "smooth_grad"
    settings_type: ClassVar[type] = SmoothGradSettings

    def compute(self, network: ExplainedNetwork, image_czyx: np.ndarray, target: int, progress: Progress) -> np.ndarray:
        """Mean over copies, summed over channels, (Z, Y, X)."""
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed)
        image = network.tensor(image_czyx)
        inside = torch.from_numpy(image_czyx != background(image_czyx)).to(image)
        ranges = [float(np.ptp(channel)) for channel in image_czyx]
        deviation = image.new_tensor(ranges)[:, None, None, None] * settings.noise_share * inside
        total = torch.zeros_like(image[0])
        for first in range(0, settings.samples, settings.batch_size):
            copies = min(settings.batch_size, settings.samples - first)
            # drawn on the CPU, so that every device sees the same
            noise = torch.randn((copies, *image.shape[1:]), generator=generator).to(image.device)
            gradients = gradient(network, image + noise * deviation, target)
            total += (gradients.abs() if settings.mean_of == "sizes" else gradients).sum(dim=0)
            progress(first + copies, settings.samples)
        map_zyx = (total / settings.samples).sum(dim=0).cpu().numpy()
        return np.where(brain_of(image_czyx), map_zyx, 0)


def gradient(network: ExplainedNetwork, images_bczyx: torch.Tensor, target: int) -> torch.Tensor:
    """Gradient of each image's score by its voxels, (B, C, Z, Y, X)."""
    with torch.enable_grad(), network.arithmetic():
        images = images_bczyx.detach().requires_grad_()
        score = network.scores(images, target).sum()
        if not score.requires_grad:
            return torch.zeros_like(images)
        (found,) = torch.autograd.grad(score, images, allow_unused=True)
    return torch.zeros_like(images) if found is None else found
