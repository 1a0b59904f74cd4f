"""Each thing that can be wrong with a data set is put into one, and must be found there alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from equiformer_jax.data.embedded import load_embedded_aspirin
from equiformer_jax.data.inspection.facts import SplitFacts, facts_of
from equiformer_jax.data.inspection.findings import find_problems
from equiformer_jax.data.inspection.picture import _edges, draw_dataset
from equiformer_jax.data.inspection.report import describe_split, describe_structure
from equiformer_jax.data.structures import StructureList, StructureSequence
from equiformer_jax.structure import Structure

CUTOFF = 5.0
KCAL = 23.060548


@pytest.fixture(scope="module")
def frames():
    return load_embedded_aspirin()["train"][:12]


def split(structures, name="train", **options):
    return SplitFacts(name, StructureList(structures, name), CUTOFF, **options)


def problems(*splits):
    return [str(finding) for finding in find_problems(splits)]


def changed(frame, **changes):
    return dataclasses.replace(frame, **changes)


def single_problem(structures, words, kind="ERROR"):
    (problem,) = problems(split(structures))
    assert problem.startswith(f"{kind}: train: ")
    assert words in problem
    return problem


def test_nothing_is_wrong_with_the_embedded_data(frames):
    assert not problems(split(frames[:8]), split(frames[8:], "test"))


def test_facts_of_a_dimer():
    dimer = Structure(
        [[0, 0, 0], [0, 0, 1.1]], [6, 8], energy=-1.0, forces=[[0, 0, 2.0], [0, 0, -1.0]]
    )
    facts = facts_of(dimer, 0, "CO", CUTOFF)
    assert (facts.num_atoms, facts.num_edges, facts.isolated) == (2, 2, 0)
    assert (facts.shortest_distance, facts.closest_pair) == (pytest.approx(1.1), (0, 1))
    assert facts.net_force == pytest.approx(1.0)
    assert facts.force_rms == pytest.approx(np.sqrt(5 / 6))


def test_atoms_too_close_are_named(frames):
    positions = frames[3].positions.copy()
    positions[4] = positions[9] + [0.3, 0, 0]
    bad = [*frames[:3], changed(frames[3], positions=positions)]
    problem = single_problem(bad, "1 structures have atoms closer than 0.4 Å")
    assert "train: structure 3: atoms 4 and 9 at 0.300 Å" in problem


def test_atoms_at_one_place_of_a_periodic_system_are_seen():
    cell = np.eye(3) * 4.0
    crystal = Structure(
        [[0, 0, 0], [0, 0, 0], [2.0, 0, 0]], [29] * 3, cell, (True,) * 3, energy=1.0
    )
    assert "atoms 0 and 1 at 0.000 Å" in single_problem([crystal], "closer")


def test_isolated_atoms_warn_and_a_structure_without_edges_is_an_error(frames):
    positions = frames[0].positions.copy()
    positions[20] += 40.0
    warning = [changed(frames[0], positions=positions), *frames[1:3]]
    single_problem(warning, "without a neighbor", kind="warning")
    alone = Structure([[0, 0, 0]], [1], energy=-13.6, forces=np.zeros((1, 3)))
    single_problem([alone, *frames[:2]], "without a neighbor")


def test_missing_labels_are_counted(frames):
    single_problem([changed(frames[0], energy=None), *frames[1:3]], "1 of 3 structures have no en")
    single_problem([*frames[:2], changed(frames[2], forces=None)], "1 of 3 structures have no for")


def test_forces_that_do_not_sum_to_zero_are_seen(frames):
    pushed = changed(frames[1], forces=frames[1].forces + [0.3, 0, 0])
    problem = single_problem([frames[0], pushed], "do not sum to zero", kind="warning")
    assert "train: structure 1: 6.300 eV/Å" in problem


@pytest.mark.parametrize("unit, factor", [("kcal/mol", KCAL), ("hartree", 1 / 27.211386)])
def test_energies_in_another_unit_are_suspected(unit, factor):
    # All-electron energies of water and methane, eV.
    water = Structure([[0, 0, 0], [0.96, 0, 0], [-0.2, 0.9, 0]], [8, 1, 1], energy=-2079.0 * factor)
    single_problem([water], f"energies look like {unit}", kind="warning")
    assert not problems(split([changed(water, energy=-2079.0)]))


def test_forces_in_another_unit_are_suspected(frames):
    def scaled(factor):
        return [changed(frame, forces=frame.forces * factor) for frame in frames]

    single_problem(scaled(KCAL), "kcal/mol/Å", kind="warning")
    single_problem(scaled(1 / 51.42), "hartree/bohr", kind="warning")


def test_copies_across_splits_are_found_though_moved_and_rounded(frames):
    copy = changed(frames[2], positions=np.float32(frames[2].positions + [10.0, -3.0, 0.5]))
    (problem,) = problems(split(frames[:4]), split([frames[5], copy], "test"))
    assert problem.startswith("ERROR: train and test: 1 structures of test are in train too")
    assert "test: structure 1 is train: structure 2" in problem


def test_one_split_that_validates_and_tests_is_a_warning(frames):
    parts = [StructureList(part, "frames") for part in (frames[:4], frames[4:])]
    facts = [
        SplitFacts(name, part, CUTOFF)
        for name, part in zip(("train", "validation", "test"), (*parts, parts[1]), strict=True)
    ]
    (problem,) = problems(*facts)
    assert problem.startswith("warning: validation and test: the same structures")
    (problem,) = problems(facts[0], SplitFacts("test", parts[0], CUTOFF))
    assert problem.startswith("ERROR: train and test: 4 structures of test are in train too")


def test_copies_within_a_split_warn(frames):
    problem = single_problem([*frames[:3], frames[1]], "copies of another", kind="warning")
    assert "train: structure 3 repeats train: structure 1" in problem


class OneUnreadable(StructureSequence):
    fingerprint = "x"

    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def structure(self, index):
        if index == 1:
            raise ValueError("file: record 1: 'F': not finite")
        return self.frames[index]

    def name_of(self, index):
        return f"file: record {index}"


def test_what_cannot_be_read_is_reported_and_the_rest_is_looked_at(frames):
    facts = SplitFacts("train", OneUnreadable(frames), CUTOFF)
    assert len(facts) == len(frames) - 1
    (problem,) = problems(facts)
    assert "file: record 1: 'F': not finite" in problem


def test_a_sample_is_spread_evenly_and_said(frames):
    facts = split(frames, sample=3)
    assert [fact.name for fact in facts] == [f"train: structure {i}" for i in (0, 5, 11)]
    assert "12 structures (3 of them looked at)" in describe_split(facts)


def test_descriptions_say_what_is_there(frames):
    facts = split(frames)
    text = describe_split(facts)
    assert "H 38.1%" in text
    assert "21 to 21" in text
    assert "  energy (eV)      mean -1077." in text
    shown = describe_structure(frames[0], facts.facts[0])
    assert shown.startswith("train: structure 0: H8C9O4, ")
    assert "energy (eV) -1077." in shown
    assert "and 16 more atoms" in shown


def test_labels_are_called_by_their_own_names_and_missing_ones_are_said(frames):
    facts = split([changed(frame, forces=None) for frame in frames[:3]])
    text = describe_split(facts, "alpha (a0^3)")
    assert "  alpha (a0^3)     mean " in text
    assert "  force rms (eV/Å) none" in text
    assert "alpha (a0^3) -1077." in describe_structure(frames[0], facts.facts[0], "alpha (a0^3)")


def test_bins_of_whole_numbers_hold_equally_many():
    np.testing.assert_array_equal(_edges(np.array([3.0, 5.0, 4.0])), [2.5, 3.5, 4.5, 5.5])
    np.testing.assert_array_equal(_edges(np.array([9.0, 9.0])), [8.5, 9.5])
    for values in (np.array([0.0, 101.0]), np.array([0.0, 0.5]), np.array([0.5, 0.5])):
        edges = _edges(values)
        assert len(edges) <= 51
        assert edges[0] <= values.min() <= values.max() <= edges[-1]
        np.testing.assert_allclose(np.diff(edges), edges[1] - edges[0])


def test_the_picture_is_drawn(frames, tmp_path):
    path = draw_dataset([split(frames[:8]), split(frames[8:], "test")], tmp_path / "data.png")
    assert path.read_bytes().startswith(b"\x89PNG")
