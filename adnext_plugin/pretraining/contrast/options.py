"""What contrast is allowed to vary."""

import math
from dataclasses import field

from adnext_plugin.errors import SettingsError
from adnext_plugin.pretraining.contrast.y_aware import Form
from adnext_plugin.pretraining.projection import ProjectorNorm
from adnext_plugin.records import record


@record
class ContrastiveOptions:
    """Defaults: Dufumier et al. 2021, as Dhinagar et al. 2023 use it."""

    # columns of subjects.csv with numbers, and within how much people count as alike: σ of a Gaussian
    sigmas: dict[str, float] = field(default_factory=lambda: {"age": 5.0})
    categories: tuple[str, ...] = ()  # columns with words, such as sex; people with the same are alike
    temperature: float = 0.1
    form: Form = "intended"
    projector_widths: tuple[int, ...] = (512, 128)
    projector_norm: ProjectorNorm = "none"  # batch: take away what the features of all scans share

    def __post_init__(self) -> None:
        for column, sigma in self.sigmas.items():
            if not 0 < sigma < math.inf:
                raise SettingsError(
                    f"sigmas: the width for {column!r} must be above 0, got {sigma}; to let only views of one scan "
                    "attract each other, as in SimCLR, leave the column out: sigmas={}"
                )
        if not 0 < self.temperature < math.inf:
            raise SettingsError(f"temperature must be above 0, got {self.temperature}")
        if not self.projector_widths or min(self.projector_widths) < 1:
            raise SettingsError(f"projector_widths must be one width or more, got {list(self.projector_widths)}")
        twice = set(self.sigmas) & set(self.categories)
        if twice:
            raise SettingsError(f"column {min(twice)!r} stands in sigmas and in categories; leave out one")

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of labels, numbers first."""
        return (*self.sigmas, *self.categories)
