"""The house: a module imports from floors below its own, or from its own floor without a circle."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterable, Mapping

import pytest

from tests.paths import REPOSITORY

# Part of the house, a package or a module -> its floor. The longest name that fits counts.
FLOORS = {
    "experiments": 7,
    "equiformer_jax": 6,  # the public names
    "equiformer_jax.inference": 6,
    "equiformer_jax.training": 5,
    "equiformer_jax.models": 4,
    "equiformer_jax.data": 4,
    "equiformer_jax.graph": 3,
    "equiformer_jax.nn": 2,
    "equiformer_jax.neighbors": 2,
    "equiformer_jax.ops": 1,
    "equiformer_jax.restricted_pickle": 1,
    "equiformer_jax.structure": 1,
    "equiformer_jax.compatibility": 1,
}
PACKAGES = ("equiformer_jax", "experiments")

Sources = Mapping[str, str]  # module name -> source text
Imports = Mapping[str, set[str]]  # name -> names of what it imports


def read_sources() -> dict[str, str]:
    sources = {}
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            sources[name] = path.read_text(encoding="utf-8")
    return sources


def part_of_house(module: str) -> str:
    """The entry of FLOORS that a module belongs to. Unknown modules of the package are an error."""
    name = module
    while name not in FLOORS:
        name = name.rpartition(".")[0]
    if name == "equiformer_jax" and module != name:
        raise AssertionError(f"{module} has no floor: give it one in {__name__}.FLOORS")
    return name


def imports_of(sources: Sources) -> dict[str, set[str]]:
    """For every module the modules of the house that it imports, anywhere in its text."""
    return {name: set(_imported(ast.parse(text), sources)) for name, text in sources.items()}


def _imported(tree: ast.Module, sources: Sources) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the floor"
            names = [
                _module_or_name(node.module or "", alias.name, sources) for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def _module_or_name(module: str, name: str, sources: Sources) -> str:
    """`from a import b` imports the module a.b where there is one, else a."""
    return f"{module}.{name}" if f"{module}.{name}" in sources else module


def climbing_imports(imports: Imports) -> list[str]:
    """Imports from a floor above."""
    return [
        f"{module} (floor {floor(module)}) imports {target} (floor {floor(target)})"
        for module, targets in imports.items()
        for target in sorted(targets)
        if floor(target) > floor(module)
    ]


def floor(module: str) -> int:
    return FLOORS[part_of_house(module)]


def imports_between_parts(imports: Imports) -> dict[str, set[str]]:
    """The same between parts of the house, inner imports left out."""
    between: dict[str, set[str]] = {}
    for module, targets in imports.items():
        part = part_of_house(module)
        between.setdefault(part, set()).update(map(part_of_house, targets))
    return {part: targets - {part} for part, targets in between.items()}


def find_circle(imports: Imports) -> list[str]:
    """The names on a circle of imports, the first one again at the end; [] where there is none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_from_a_floor_above():
    assert not climbing_imports(imports_of(read_sources()))


def test_no_circles():
    imports = imports_of(read_sources())
    assert not find_circle(imports)
    assert not find_circle(imports_between_parts(imports))


def test_the_house_is_found():
    sources = read_sources()
    assert "equiformer_jax" in sources
    assert "equiformer_jax.graph" in imports_of(sources)["equiformer_jax"]
    assert "equiformer_jax.neighbors" in imports_of(sources)["equiformer_jax.graph"]


@pytest.mark.parametrize(
    "statement",
    [
        "import equiformer_jax.training.step",
        "from equiformer_jax.training import step",
        "from equiformer_jax.training.step import train_step",
        "from equiformer_jax import Potential",
        "def f():\n    from experiments import train",
    ],
)
def test_a_climbing_import_is_seen(statement):
    sources = {
        "equiformer_jax": "",
        "equiformer_jax.models.equiformer": "import jax\n" + statement,
        "equiformer_jax.training.step": "",
        "experiments.train": "",
    }
    (found,) = climbing_imports(imports_of(sources))
    assert found.startswith("equiformer_jax.models.equiformer (floor 4) imports e")


def test_circles_are_seen():
    sources = {
        "equiformer_jax.ops.a": "from equiformer_jax.ops import b",
        "equiformer_jax.ops.b": "import equiformer_jax.ops.a",
    }
    assert len(find_circle(imports_of(sources))) == 3
    sources = {
        "equiformer_jax.models.a": "import equiformer_jax.data.a",
        "equiformer_jax.data.a": "",
        "equiformer_jax.data.b": "import equiformer_jax.models.b",
        "equiformer_jax.models.b": "",
    }
    assert not find_circle(imports_of(sources))
    assert len(find_circle(imports_between_parts(imports_of(sources)))) == 3


def test_a_module_without_a_floor_is_named():
    with pytest.raises(AssertionError, match=r"equiformer_jax\.utils has no floor"):
        part_of_house("equiformer_jax.utils")
