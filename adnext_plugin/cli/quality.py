"""`adnext_quality`: look at all prepared cases, and list those that stand out."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import read_json, require_file
from adnext_plugin.paths import CONFIGURATION, PLANS_NAME, dataset_folder_name, preprocessed_dir, raw_dir


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    datasets: tuple[str, ...]
    plans: str
    top: int
    processes: int


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_quality", "Contact sheet and table of prepared scans; suspicious ones are listed.")
    parser.add_argument("--dataset", "-d", nargs="+", required=True, help="dataset numbers or names")
    parser.add_argument("--plans", "-p", default=PLANS_NAME, help="name of the plans file")
    parser.add_argument("--top", type=int, default=20, help="cases to list on the terminal at most (default: 20)")
    parser.add_argument("--processes", "-np", type=int, default=min(8, usable_cpus()), help="default: %(default)s")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    if arguments.top < 0 or arguments.processes < 1:
        raise SettingsError(f"--top {arguments.top} and -np {arguments.processes}: at least 0 and 1 are needed")
    request = Request(
        datasets=tuple(dataset_folder_name(dataset, [preprocessed_dir()]) for dataset in arguments.dataset),
        plans=arguments.plans,
        top=arguments.top,
        processes=arguments.processes,
    )
    return max(_report(dataset, request) for dataset in request.datasets)


def _report(dataset: str, request: Request) -> int:
    from adnext_plugin.parallel import for_each
    from adnext_plugin.quality.measurements import Measurements, QualityJob, measure_case
    from adnext_plugin.quality.sheet import write_report
    from adnext_plugin.quality.suspicion import find_suspicious
    from adnext_plugin.subjects import read_dataset

    folder = preprocessed_dir() / dataset
    plans = require_file(folder / f"{request.plans}.json", f"run adnext_plan_and_preprocess -d {dataset}")
    data = folder / read_json(plans)["configurations"][CONFIGURATION]["data_identifier"]
    _, subjects = read_dataset(folder)
    jobs = [QualityJob(case=case, folder=data, scan=_scan(dataset, case)) for case in sorted(subjects["case_id"])]
    outcomes = dict(for_each(measure_case, jobs, processes=request.processes, description="Quality"))
    cases = [outcomes[index] for index in range(len(jobs)) if isinstance(outcomes[index], Measurements)]
    for index in range(len(jobs)):
        if not isinstance(outcomes[index], Measurements):
            print(f"error: {jobs[index].case}: {outcomes[index]}", file=sys.stderr)
    if not cases:
        return 2
    table = find_suspicious(cases, dict(zip(subjects["case_id"], subjects["subject_id"], strict=True)))
    sheet, csv = write_report(table, cases, dataset, folder / "quality")
    suspicious = table[table["suspicion"] > 0]
    print(
        f"{len(suspicious)} of {len(table)} cases of {dataset} stand out; the {min(request.top, len(suspicious))} most"
    )
    for row in suspicious.head(request.top).itertuples():
        print(f"  {row.case_id}: {row.reasons}")
    print(f"Look at {sheet}; the numbers are in {csv}")
    return 0 if len(cases) == len(jobs) else 2


def _scan(dataset: str, case: str) -> Path:
    return raw_dir() / dataset / "imagesTr" / f"{case}_0000.nii.gz"
