"""Which MPI library mpi4py loads, and which mpiexec belongs to it."""

import os
import sys
from pathlib import Path

import pytest

from keras_candle.cluster import mpi_library
from keras_candle.cluster.mpi_library import (
    CRAY,
    INTEL,
    MPICH,
    OPEN_MPI,
    PALS,
    MpiLibrary,
    family_of,
    find_mpiexec,
    loaded_library,
)
from keras_candle.errors import LaunchError

VERSIONS = {
    MPICH: ["HYDRA build details:\n    Version:  5.0.2", "MPICH Version:      5.0.2"],
    CRAY: ["MPI VERSION    : CRAY MPICH version 8.1.25.17 (ANL base 3.4a2)"],
    INTEL: ["Intel(R) MPI Library for Linux* OS, Version 2021.18.1 Build 20260626"],
    OPEN_MPI: ["mpiexec (OpenRTE) 4.1.4", "mpiexec (Open MPI) 5.0.11", "Open MPI v4.1.4, package"],
    PALS: ["mpiexec version 1.2.12 using libpals"],
    "": ["mpiexec 3"],
}


@pytest.fixture
def mpiexec(tmp_path, monkeypatch):
    """Writes programs named mpiexec that answer --version, in folders of their own."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))

    def write(folder, family):
        path = tmp_path / folder / "bin" / "mpiexec"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\necho '{VERSIONS[family][0]}'\n")
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize(("family", "text"), [(f, t) for f, ts in VERSIONS.items() for t in ts])
def test_each_family_is_known_by_its_version(family, text):
    assert family_of(text) == family


def test_the_library_of_this_python():
    library = loaded_library()
    assert library.family in (MPICH, INTEL, OPEN_MPI)
    assert Path(library.path).name.startswith("libmpi")
    assert mpi_library.family_of_mpiexec(find_mpiexec()) == library.family


def test_a_library_that_cannot_be_loaded_is_a_sentence():
    library = loaded_library({**os.environ, "MPI4PY_LIBMPI": "/nowhere/libmpi.so"})
    assert "cannot load MPI library" in library.problem or "libmpi" in library.problem
    assert library.family == ""


@pytest.mark.parametrize(
    ("library", "beside_python", "on_path", "chosen"),
    [
        (MPICH, MPICH, OPEN_MPI, "python"),
        (OPEN_MPI, MPICH, OPEN_MPI, "path"),
        (INTEL, MPICH, INTEL, "path"),
        (INTEL, MPICH, OPEN_MPI, "python"),
        (CRAY, MPICH, PALS, "path"),
        (CRAY, MPICH, OPEN_MPI, "python"),
        ("", MPICH, OPEN_MPI, "python"),
        (OPEN_MPI, MPICH, "", "path"),
    ],
)
def test_the_mpiexec_fits_the_library(mpiexec, library, beside_python, on_path, chosen):
    paths = {"python": mpiexec("python", beside_python), "path": mpiexec("path", on_path)}
    environment = {"PATH": str(paths["path"].parent)}
    assert find_mpiexec(MpiLibrary(library), environment) == paths[chosen]


def test_the_one_of_the_librarys_own_folder_comes_first(mpiexec, tmp_path):
    mpiexec("python", OPEN_MPI)
    own = mpiexec("site", OPEN_MPI)
    library = MpiLibrary(OPEN_MPI, "v5", str(tmp_path / "site/lib/x86_64-linux-gnu/libmpi.so.40"))
    assert find_mpiexec(library, {"PATH": str(tmp_path)}) == own


def test_none_that_fits_is_refused_with_both_names(mpiexec):
    beside = mpiexec("python", MPICH)
    with pytest.raises(LaunchError) as refused:
        find_mpiexec(MpiLibrary(OPEN_MPI, "v5", "/site/lib/libmpi.so.40"), {"PATH": ""})
    assert f"{beside} (MPICH)" in str(refused.value)
    assert "/site/lib/libmpi.so.40" in str(refused.value)


def test_no_mpiexec_at_all(mpiexec, tmp_path):
    with pytest.raises(LaunchError, match="none on PATH"):
        find_mpiexec(MpiLibrary(MPICH), {"PATH": str(tmp_path)})
