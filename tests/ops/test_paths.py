from __future__ import annotations

import e3nn_jax as e3nn
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from equiformer_jax.ops.irreps import sort_even_first
from equiformer_jax.ops.paths import depthwise_paths
from equiformer_jax.ops.tensor_product import path_runs

IRREPS = [f"{degree}{parity}" for degree in range(4) for parity in "eo"]
HARMONICS = [
    "+".join(f"{degree}{parity}" for degree, parity in enumerate(parities[: lmax + 1]))
    for parities in ("eeee", "eoeo")
    for lmax in range(4)
]
wanted_irreps = st.sets(st.sampled_from(IRREPS), min_size=1).map("+".join)


@st.composite
def node_irreps(draw):
    chosen = {"0e"} | draw(st.sets(st.sampled_from(IRREPS)))
    return str(sort_even_first("+".join(f"{draw(st.integers(1, 5))}x{ir}" for ir in chosen)))


def test_a_small_product_by_hand():
    """Loops over inputs, harmonics, outputs: 0x0 0x1 | 1x0 1x1->0 1x1->1 (2e is not wanted)."""
    paths = depthwise_paths("3x0e+2x1e", "1x0e+1x1e", "1e")
    assert paths.irreps_out == e3nn.Irreps("5x0e+7x1e")
    starts = [[path.official_start for path in group] for group in paths.groups]
    # Even paths by ascending and then odd ones by descending input degree.
    assert starts == [[0, 8], [3, 6, 10]]
    assert [path.is_even for path in paths.groups[1]] == [True, True, False]
    np.testing.assert_array_equal(paths.weight_order(), [0, 1, 2, 8, 9, 3, 4, 5, 6, 7, 10, 11])
    np.testing.assert_array_equal(paths.row_orders()[1], np.arange(7))


@given(node_irreps(), st.sampled_from(HARMONICS), wanted_irreps)
def test_orders_are_permutations(source, sh, wanted):
    paths = depthwise_paths(source, sh, wanted)
    assert sorted(paths.weight_order()) == list(range(paths.weight_numel))
    for order, (mul, _) in zip(paths.row_orders(), paths.irreps_out, strict=True):
        assert sorted(order) == list(range(mul))
    assert [s.stop - s.start for s in paths.group_slices] == [mul for mul, _ in paths.irreps_out]


@given(node_irreps(), st.sampled_from(HARMONICS), wanted_irreps)
def test_every_product_that_is_wanted_is_there_once(source, sh, wanted):
    kept = {ir for _, ir in e3nn.Irreps(wanted)} | {e3nn.Irrep("0e")}
    expected = [
        (segment, ir_sh.l, ir)
        for segment, (_, ir_in) in enumerate(e3nn.Irreps(source))
        for _, ir_sh in e3nn.Irreps(sh)
        for ir in ir_in * ir_sh
        if ir in kept
    ]
    paths = depthwise_paths(source, sh, wanted)
    found = [
        (path.segment, path.degrees[1], ir)
        for group, (_, ir) in zip(paths.groups, paths.irreps_out, strict=True)
        for path in group
    ]
    assert len(found) == len(expected)
    assert set(found) == set(expected)


@given(node_irreps(), st.sampled_from(HARMONICS), wanted_irreps)
def test_every_order_reads_one_contiguous_range_of_each_group(source, sh, wanted):
    paths = depthwise_paths(source, sh, wanted)
    for group, (mul, ir) in zip(paths.groups, paths.irreps_out, strict=True):
        runs = path_runs(group)
        assert [run.start for run in runs] == [0, *(run.stop for run in runs[:-1])]
        assert runs[-1].stop == mul
        for m in range(ir.l + 1):
            reaching = [index for index, run in enumerate(runs) if run.reaches(m)]
            assert reaching == list(range(reaching[0], reaching[-1] + 1)) if reaching else True
