"""The paper's Table 4 beside our counts: one channel, two outputs, 128³ voxels.

Source: AD-NeXt, Table 4. Its S row has parameters and multiply-adds in each other's place: 3.63 and 3.72 are printed
where 3.72 M and 3.63 G are meant, which is what both our counts and the sizes given in the text come to.
"""

from dataclasses import dataclass
from decimal import Decimal

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.costs import count

INPUT_SIZE_VOXELS = (128, 128, 128)
TRANSPOSED = "adnext_s"


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row as printed: millions of parameters, thousands of millions of multiply-adds."""

    label: str
    name: str
    parameters_m: str
    multiply_adds_g: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row of the paper, and ours rounded to the digits it prints; agreement allows for the transposed row."""

    paper: PaperRow
    parameters_m: str
    multiply_adds_g: str
    agrees: bool


PAPER = tuple(
    PaperRow(label=label, name=name, parameters_m=parameters_m, multiply_adds_g=multiply_adds_g)
    for label, name, parameters_m, multiply_adds_g in (
        ("MedNeXt-B k3", "mednext_b_k3", "2.64", "56.6"),
        ("MedNeXt-B k5", "mednext_b_k5", "2.78", "75.13"),
        ("DenseNet121", "densenet121", "11.24", "43.40"),
        ("ResNet10", "resnet10", "14.36", "143.5"),
        ("ResNet34", "resnet34", "63.47", "433.87"),
        ("ResNet101", "resnet101", "85.21", "487.43"),
        ("ViT-B", "vit_b16", "88.60", "45.27"),
        ("AD-NeXt-T", "adnext_t", "0.76", "0.90"),
        ("AD-NeXt-S", "adnext_s", "3.63", "3.72"),
        ("AD-NeXt-B", "adnext_b", "24.36", "16.79"),
        ("AD-NeXt-L", "adnext_l", "71.25", "57.40"),
    )
)


def compare(row: PaperRow) -> Comparison:
    """Count what the paper counted, and round it as the paper did."""
    costs = count(row.name, 1, 2, INPUT_SIZE_VOXELS)
    printed = (row.parameters_m, row.multiply_adds_g)
    if row.name == TRANSPOSED:
        printed = printed[::-1]
    if costs.parameters is None or costs.multiply_adds is None:
        raise SettingsError(costs.problem)
    ours = (_rounded(costs.parameters, 6, printed[0]), _rounded(costs.multiply_adds, 9, printed[1]))
    return Comparison(paper=row, parameters_m=ours[0], multiply_adds_g=ours[1], agrees=ours == printed)


def _rounded(value: int, power_of_ten: int, like: str) -> str:
    return str(Decimal(value).scaleb(-power_of_ten).quantize(Decimal(like)))
