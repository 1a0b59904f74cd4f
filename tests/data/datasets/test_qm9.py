from __future__ import annotations

import pytest

from equiformer_jax.data.datasets.qm9 import load_qm9
from tests.data.readers import qm9_samples
from tests.paths import REAL_DATA, needs_real_data


def test_the_published_split_needs_the_whole_set(tmp_path):
    qm9_samples.write_sdf(tmp_path)
    with pytest.raises(ValueError, match=r"3 characterized molecules, the published .* 130,831"):
        load_qm9("alpha", file=str(tmp_path))


@needs_real_data
def test_a_part_of_qm9_is_split_in_the_same_proportions():
    path = str(REAL_DATA / "qm9" / "qm9_subset.npz")
    splits = load_qm9("alpha", file=path, scaled_split=True)
    assert [len(part) for part in splits.values()] == [4013, 364, 396]
    structure = splits["train"][0]
    assert structure.energy == pytest.approx(structure.properties["alpha"])
