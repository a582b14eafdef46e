"""The house: imports run downwards only, and the ground floor stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ctd_models

PACKAGE = Path(ctd_models.__file__).parent
FLOORS = {  # what each room may import from the package, itself apart
    "analysis": set(),
    "tasks": set(),
    "data": set(),
    "configuration": set(),
    "models": {"configuration", "data"},  # of data, the type of a batch
    "training": {"configuration", "tasks", "data", "_version"},
    "plots": {"analysis"},
}
ANALYSIS_LIBRARIES = {"jax", "numpy", "scipy", "h5py", "tqdm", "jaxtyping"}
EXTRAS = {"sklearn", "elephant", "pynwb"}  # imported inside the functions that need them


def imported_modules(file: Path, at_import: bool = False) -> set[str]:
    """Every module a file imports, inside functions too, unless only those at import are asked for."""
    names = set()
    tree = ast.parse(file.read_text())
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names.add(node.module)
    return names


def files_of(room: str) -> list[Path]:
    path = PACKAGE / room
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def test_every_room_has_a_floor():
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert rooms - {"__init__", "_version"} == set(FLOORS)


@pytest.mark.parametrize("room", FLOORS)
def test_imports_run_downwards(room):
    files = files_of(room)
    assert files
    for file in files:
        rooms = {name.split(".")[1] for name in imported_modules(file) if name.startswith("ctd_models.")}
        assert rooms - {room} <= FLOORS[room], f"{file} imports {rooms - {room} - FLOORS[room]}"


def test_analysis_uses_only_its_libraries():
    for file in files_of("analysis"):
        for at_import, allowed in ((False, ANALYSIS_LIBRARIES | EXTRAS), (True, ANALYSIS_LIBRARIES)):
            libraries = {name.split(".")[0] for name in imported_modules(file, at_import)} - {"ctd_models"}
            foreign = libraries - allowed - set(sys.stdlib_module_names)
            assert not foreign, f"{file} imports {foreign}"


def test_tasks_and_data_know_no_models():
    for room in ("tasks", "data"):
        for file in files_of(room):
            libraries = {name.split(".")[0] for name in imported_modules(file)}
            assert not libraries & {"flax", "optax", "orbax"}, file


def test_importing_analysis_loads_neither_flax_nor_optax_nor_orbax():
    code = "import sys, ctd_models.analysis; print([m for m in ('flax', 'optax', 'orbax') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_public_face():
    for name in ctd_models.__all__:
        assert getattr(ctd_models, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ctd_models.nothing  # noqa: B018


def test_examples_are_short():
    for file in (PACKAGE.parent / "examples").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 150, file
