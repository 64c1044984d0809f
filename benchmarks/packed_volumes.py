"""Prepared datasets in as few bytes as they have, to take them to a machine with a slow line; and back again.

Volumes are rounded to a quarter of the standard deviation within the brain, which changes a voxel by 0.07 of one on
average, and stored as whole numbers under bzip2; a scan that is in several datasets is stored once. Differences of
neighbours would take more bytes, as noise is most of what is left. Of the cases' properties all is kept but the hash of
the volume, which is that of the one that is written.
"""

import bz2
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import blosc2
import numpy as np

from adnext_plugin.case_properties import CaseProperties, read_case_properties, write_case_properties
from adnext_plugin.stored_volumes import properties_file, read_volume_of, volume_file

STEP = 1 / 4  # of the standard deviation; exact in float16
LARGEST = 127
INDEX, SMALL_FILES = "index.json", "small_files.tar.xz"
SHAPE_BYTES = 6  # bounding box, start and stop of three axes


def pack(preprocessed: Path, folders: Sequence[str], packed: Path, keep: int | None = None) -> None:
    """Pack datasets.

    Args:
        preprocessed: holds them.
        folders: of prepared volumes within, such as `Dataset201_OasisAD/ADNeXtPlans_3d_fullres`.
        packed: a tar file, to be written.
        keep: at most so many volumes of each folder, as a test of what becomes of them; None: all.
    """
    index: dict[str, dict[str, str]] = {}
    written: set[str] = set()
    with tarfile.open(packed, "w") as archive:
        for folder in folders:
            index[folder] = {}
            for path in sorted((preprocessed / folder).glob("*.b2nd"))[:keep]:
                properties = read_case_properties(properties_file(path.parent, path.stem))
                content = encoded(read_volume_of(path, properties)[0])
                name = sha256(content).hexdigest()[:16]
                index[folder][path.stem] = name
                if name not in written:
                    written.add(name)
                    _add(archive, f"{name}.bz2", content)
        small = io.BytesIO()
        with tarfile.open(fileobj=small, mode="w:xz", preset=9) as inner:
            for path in _small_files(preprocessed, folders):
                inner.add(path, path.relative_to(preprocessed))
        _add(archive, SMALL_FILES, small.getvalue())
        _add(archive, INDEX, json.dumps(index).encode())


def unpack(packed: Path, preprocessed: Path, processes: int) -> None:
    """Write packed datasets where nnU-Net looks for them.

    Args:
        packed: the folder of the unpacked tar file.
        preprocessed: to write to.
        processes: at once.
    """
    with tarfile.open(packed / SMALL_FILES) as inner:
        inner.extractall(preprocessed, filter="data")
    index: dict[str, dict[str, str]] = json.loads((packed / INDEX).read_text())
    places: dict[str, list[Path]] = {}
    for folder, cases in index.items():
        for case, name in cases.items():
            places.setdefault(name, []).append(volume_file(preprocessed / folder, case))
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_write, [(packed / f"{name}.bz2", files) for name, files in places.items()], chunksize=8))


def encoded(volume_zyx: np.ndarray) -> bytes:
    """A volume (Z, Y, X), rounded, in few bytes."""
    codes = np.clip(np.rint(volume_zyx.astype(np.float32) / STEP), -LARGEST, LARGEST).astype(np.int8)
    box = [(int(places.min()), int(places.max()) + 1) for places in np.nonzero(codes)]
    return np.array(box, np.uint8).tobytes() + bz2.compress(codes[tuple(slice(*ends) for ends in box)].tobytes(), 9)


def decoded(content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The volume (Z, Y, X) of `encoded`, in float16."""
    box = np.frombuffer(content[:SHAPE_BYTES], np.uint8).reshape(3, 2).astype(int)
    codes = np.frombuffer(bz2.decompress(content[SHAPE_BYTES:]), np.int8).reshape(box[:, 1] - box[:, 0])
    volume_zyx = np.zeros(shape, np.float16)
    volume_zyx[tuple(slice(*ends) for ends in box)] = codes.astype(np.float16) * np.float16(STEP)
    return volume_zyx


def _small_files(preprocessed: Path, folders: Sequence[str]) -> Iterator[Path]:
    for dataset in sorted({folder.split("/")[0] for folder in folders}):
        files = (preprocessed / dataset).iterdir()
        yield from sorted(path for path in files if path.suffix in (".json", ".csv") and "digests" not in path.name)
    for folder in folders:
        yield from sorted((preprocessed / folder).glob("*.pkl"))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _write(job: tuple[Path, list[Path]]) -> None:
    source, places = job
    first = places[0]
    plans = json.loads((first.parents[1] / f"{first.parent.name.removesuffix('_3d_fullres')}.json").read_text())
    shape = plans["configurations"]["3d_fullres"]["adnext"]["preprocessing"]["input_size_voxels"]
    image_czyx = decoded(source.read_bytes(), tuple(shape))[None]
    content = blosc2.asarray(image_czyx, cparams={"codec": blosc2.Codec.LZ4, "clevel": 1, "nthreads": 1}).to_cframe()
    first.write_bytes(content)
    for place in places:
        if place != first:
            os.link(first, place)
        notes = properties_file(place.parent, place.stem)
        properties: CaseProperties = read_case_properties(notes)
        write_case_properties(replace(properties, volume_sha256=sha256(content).hexdigest()), notes)
