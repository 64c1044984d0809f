"""What an encoder may be taught of people before anybody's diagnosis."""

from dataclasses import field

from adnext_plugin.errors import SettingsError
from adnext_plugin.records import record


@record
class ProxyOptions:
    """Columns of subjects.csv that are told at once. A cell that is empty, or has another word, teaches nothing."""

    numbers: tuple[str, ...] = ("age",)  # such as age and volumes of the brain and its ventricles
    # columns with words, and which; made in advance, since the network has an output for each
    categories: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"sex": ("F", "M")})

    def __post_init__(self) -> None:
        if not self.numbers and not self.categories:
            raise SettingsError("numbers and categories are both empty; name a column to be told from scans")
        for column, words in self.categories.items():
            if len(set(words)) < 2 or len(set(words)) < len(words) or "" in words:
                raise SettingsError(
                    f"categories: {column!r} needs at least two different words, got {list(words)}; for example "
                    'categories={"sex": ["F", "M"]}'
                )
        twice = set(self.numbers) & set(self.categories)
        if twice or len(set(self.numbers)) < len(self.numbers):
            name = min(twice) if twice else next(one for one in self.numbers if self.numbers.count(one) > 1)
            raise SettingsError(f"column {name!r} is named twice; leave out one")

    @property
    def columns(self) -> tuple[str, ...]:
        """Numbers first."""
        return (*self.numbers, *self.categories)

    @property
    def outputs(self) -> tuple[int, ...]:
        """How many outputs of the network belong to each column."""
        return (*[1] * len(self.numbers), *[len(words) for words in self.categories.values()])
