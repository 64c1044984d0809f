"""Maps of new scans, made while they are predicted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import AdnextError
from adnext_plugin.files import write_json
from adnext_plugin.workflows.explanation_files import CaseFiles

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.prediction.ensemble import Prediction, PreparedScan
    from adnext_plugin.prediction.inputs import ScanInput
    from adnext_plugin.prediction.model import Model
    from adnext_plugin.workflows.predict import Explain

TABLE, SETTINGS = "maps.csv", "settings.json"


class NewMaps:
    """A folder with a map of each scan, the mean of all networks', and a table.

    Args:
        how: method and target.
        model: whose networks.
        device: cpu, cuda or mps.
        folder: for the files; it is made with the first map.

    Raises:
        UnknownNameError: there is no such method or target.
        SettingsError: settings are not those of the method.
    """

    def __init__(self, how: "Explain", model: "Model", device: str, folder: Path) -> None:
        from adnext_plugin.explanations.method import load_explanation
        from adnext_plugin.explanations.thresholds import ThresholdSettings
        from adnext_plugin.prediction.new_explanations import NewExplanations

        self.folder = folder
        self._how, self._method = how, load_explanation(how.method, how.settings)
        self._explanations = NewExplanations(model, self._method, how.target, device)
        self._threshold = ThresholdSettings()
        self._files = CaseFiles(self._threshold, folder, self._explanations.task, how.animate)
        self._rows: list[dict[str, Any]] = []
        self._problem: AdnextError | None = None

    def add(self, scan: "ScanInput", prepared: "PreparedScan", row: "pd.DataFrame", found: "Prediction") -> None:
        """Write the files of one scan. What goes wrong is kept for the end, so that no prediction is lost of it."""
        if self._problem is not None:
            return
        try:
            case, agree = self._explanations.explain(scan, prepared, row, found)
            written = self._files.add(case)
        except AdnextError as error:
            self._problem = error
            return
        self._rows.append({**written, "networks_agree": agree})

    def finish(self) -> None:
        """Write the table, and how the maps were made.

        Raises:
            AdnextError: settings of the method do not fit the network, or a file could not be written.
        """
        import pandas as pd

        from adnext_plugin.csv_files import write_csv
        from adnext_plugin.records import to_json

        if self._problem is not None:
            raise self._problem
        self._files.finish()
        if not self._rows:
            return
        write_csv(pd.DataFrame(self._rows), self.folder / TABLE)
        how = {
            "method": self._how.method,
            "settings": to_json(self._method.settings),
            "threshold": to_json(self._threshold),
            "target": self._explanations.target_name,
        }
        write_json(how, self.folder / SETTINGS)
