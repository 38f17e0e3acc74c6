"""What `candle doctor` finds where library, mpiexec and srun do or do not fit each other."""

import os
from pathlib import Path

import pytest

from keras_candle.cluster.mpi_library import CRAY, INTEL, MPICH, OPEN_MPI, MpiLibrary
from keras_candle.launch.mpi_diagnosis import BROKEN, MISSING, OK, MpiFacts, collect, mpi_findings

WHEEL = MpiLibrary(MPICH, "MPICH Version: 5.0.2", "/venv/lib/libmpi.so.12")
SITE = MpiLibrary(OPEN_MPI, "Open MPI v4.1.4", "/site/lib/libmpi.so.40")
HYDRA, ORTE = Path("/venv/bin/mpiexec"), Path("/site/bin/mpiexec")
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
SLURM = ("none", "pmi2")


def facts(library=WHEEL, **given) -> MpiFacts:
    return MpiFacts(library, **{"mpiexec": HYDRA, "prefix": "/venv", "wheels": ("mpich",), **given})


@pytest.fixture(autouse=True)
def families(monkeypatch):
    known = {HYDRA: MPICH, ORTE: OPEN_MPI}
    monkeypatch.setattr("keras_candle.launch.mpi_diagnosis.family_of_mpiexec", known.get)


@pytest.mark.parametrize(
    "given",
    [
        facts(),
        facts(srun_values=("none", "pmi2"), srun_value="pmi2"),
        facts(SITE, mpiexec=ORTE, wheels=()),
        facts(SITE, mpiexec=ORTE, is_root=True, variables=ROOT),
        facts(SITE, mpiexec=ORTE, site_mpiexec=ORTE, site_family=OPEN_MPI),
    ],
)
def test_where_all_fits_there_is_nothing_to_do(given):
    assert [(each.state, each.remedy) for each in mpi_findings(given)] in (
        [(OK, "")] * 2,
        [(OK, "")] * 3,
    )


@pytest.mark.parametrize(
    ("given", "row", "state", "words"),
    [
        (facts(site_mpiexec=ORTE, site_family=OPEN_MPI), 0, OK, "export MPI4PY_MPIABI=openmpi"),
        (facts(variables={"CRAY_MPICH_DIR": "/opt/cray"}), 0, OK, "lib-abi-mpich"),
        (facts(wheels=("mpich", "impi-rt")), 0, BROKEN, "pip uninstall mpich"),
        (facts(MpiLibrary(problem="libmpi.so.12 not found")), 0, BROKEN, "pip install mpich"),
        (
            facts(MpiLibrary(problem="not found"), site_mpiexec=ORTE, site_family=MPICH),
            0,
            BROKEN,
            "--no-binary mpi4py",
        ),
        (facts(SITE, mpiexec=None, problem="no mpiexec belongs to it"), 1, MISSING, "belongs"),
        (facts(SITE, mpiexec=ORTE, is_root=True), 1, BROKEN, "OMPI_ALLOW_RUN_AS_ROOT=1"),
        (facts(srun_values=("none", "pmix")), 2, "-", "without pmi2"),
        (facts(SITE, mpiexec=ORTE, srun_values=SLURM), 2, "-", "without pmix"),
        (facts(MpiLibrary(INTEL), srun_values=SLURM), 2, "-", "I_MPI_PMI_LIBRARY"),
        (facts(MpiLibrary(CRAY), srun_values=("none",)), 2, "-", "cray_shasta"),
        (facts(srun_values=()), 2, BROKEN, "srun --mpi=list"),
    ],
)
def test_one_thing_to_do_for_each_that_does_not_fit(given, row, state, words):
    finding = mpi_findings(given)[row]
    assert finding.state == state
    assert words in finding.remedy
    assert sum(bool(each.remedy) for each in mpi_findings(given)) == 1


def test_the_site_library_is_named_by_its_path(tmp_path):
    for name in ("bin/mpiexec", "lib/x86_64-linux-gnu/libmpi.so.40"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    given = facts(site_mpiexec=tmp_path / "bin/mpiexec", site_family=OPEN_MPI)
    line = f"MPI4PY_LIBMPI={tmp_path}/lib/x86_64-linux-gnu/libmpi.so.40"
    assert mpi_findings(given)[0].remedy.endswith(line)


def test_this_machine_and_its_modules(stub):
    stub("srun", "pmi2")
    environment = {**os.environ, "LOADEDMODULES": "gcc/12:openmpi/4.1"}
    found = {each.name: each for each in mpi_findings(collect(environment))}
    assert found["MPI library"].state == OK
    assert found["MPI modules"].detail == "openmpi/4.1"
    assert "pmi2" in found["srun --mpi"].detail
