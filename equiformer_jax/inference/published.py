"""What has been published for Equiformer: errors, and what they were obtained with.

Only figures that could be read somewhere public are here; each names the place.

* QM9, all twelve targets: the Equiformer paper (arXiv:2206.11990). Read in the table of QM9 of its
  authors' EquiformerV2 (arXiv:2306.12059), which repeats them, and likewise in Table 1 of
  arXiv:2510.03046.
* MD17, aspirin, lmax 2: Table 2 of the Equiformer paper, as quoted in issue 15 of
  github.com/atomicarchitects/equiformer. The log of the official script given there, 0.121 kcal/mol
  and 0.164 kcal/(mol Å), agrees with it to 0.1 meV. The set has 211,762 frames.
* OC20 IS2RE: the README of github.com/atomicarchitects/equiformer, energies on the in-distribution
  validation split; the second also in a table of GeoMFormer's authors. The sizes of the splits are
  those of DATASET.md of github.com/FAIR-Chem/fairchem.

The other molecules of MD17, lmax 3, the ablations and DeNS have been published, too, but were found
nowhere that could be read, so that they are not here. What the figures were trained with is from
SPEC.md, section 12.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import e3nn_jax as e3nn

from equiformer_jax.data.readers.qm9_targets import find_target

_PAPER = "Equiformer, arXiv:2206.11990"
_QM9_SOURCE = f"{_PAPER}, as repeated in EquiformerV2, arXiv:2306.12059"
_MD17_SOURCE = f"{_PAPER}, Table 2, as quoted in issue 15 of github.com/atomicarchitects/equiformer"
_OC20_SOURCE = "README of github.com/atomicarchitects/equiformer"

_GAUSSIAN = "graph_attention_transformer_nonlinear_l2"
_BESSEL = "graph_attention_transformer_nonlinear_bessel_l2"


@dataclasses.dataclass(frozen=True)
class PublishedRun:
    """Published mean absolute errors of one training.

    Attributes:
      errors: by the name of the metric in `metrics.jsonl`, whose unit they have.
      data: the data set and what of it, for people.
      preset: the published model (`get_preset`).
      num_train: structures trained on.
      num_epochs: epochs trained for.
      batch_size: structures in a step.
      learning_rate: the highest of the schedule.
      measured_on: name of the split that these are the errors on.
      num_measured: its structures.
      splits: what our splits are called that are the same structures.
      source: where the errors were read.
    """

    errors: Mapping[str, float]
    data: str
    preset: str
    num_train: int
    num_epochs: int
    batch_size: int
    learning_rate: float
    measured_on: str
    num_measured: int
    splits: tuple[str, ...]
    source: str


@dataclasses.dataclass(frozen=True)
class Subject:
    """What errors are of, as far as two runs must agree in it to be compared.

    Attributes:
      dataset: `md17`, also for the revised one; `qm9` or `oc20_is2re`.
      name: the molecule, the target or, for OC20, `energy`.
      lmax: highest degree of the features.
      variant: `nonlinear`, `linear` or `dot_product`; ` e3`, ` dens` and ` is2rs` may follow.
    """

    dataset: str
    name: str
    lmax: int = 2
    variant: str = "nonlinear"


def _qm9(preset: str, **errors: float) -> PublishedRun:
    return PublishedRun(
        errors=errors,
        data="QM9",
        preset=preset,
        num_train=110_000,
        num_epochs=300,
        batch_size=128,
        learning_rate=5e-4,
        measured_on="test",
        num_measured=10_831,
        splits=("test",),
        source=_QM9_SOURCE,
    )


def _qm9_total(**errors: float) -> PublishedRun:
    run = _qm9(f"{_BESSEL}_drop00", **errors)
    return dataclasses.replace(run, num_epochs=600, batch_size=64, learning_rate=1.5e-4)


_ASPIRIN = PublishedRun(
    errors={"energy_mae_mev": 5.3, "force_mae_mev_per_angstrom": 7.2},
    data="MD17 aspirin",
    preset="md17_l2",
    num_train=950,
    num_epochs=1500,
    batch_size=8,
    learning_rate=5e-4,
    measured_on="test",
    num_measured=210_762,
    splits=("test",),
    source=_MD17_SOURCE,
)
_IS2RE = PublishedRun(
    errors={"energy_mae_ev": 0.5088},
    data="OC20 IS2RE, subset all",
    preset="oc20_is2re",
    num_train=460_328,
    num_epochs=20,
    batch_size=32,
    learning_rate=2e-4,
    measured_on="val_id",
    num_measured=24_943,
    splits=("validation", "test"),
    source=_OC20_SOURCE,
)
_IS2RE_IS2RS = dataclasses.replace(
    _IS2RE,
    errors={"energy_mae_ev": 0.4156},
    preset="oc20_is2re_is2rs",
    num_epochs=40,
    learning_rate=5e-4,
)

PUBLISHED: Mapping[Subject, PublishedRun] = {
    Subject("qm9", "mu"): _qm9(_GAUSSIAN, mu_mae_debye=0.011),
    Subject("qm9", "alpha"): _qm9(_GAUSSIAN, alpha_mae_bohr3=0.046),
    Subject("qm9", "homo"): _qm9(_GAUSSIAN, homo_mae_mev=15),
    Subject("qm9", "lumo"): _qm9(_GAUSSIAN, lumo_mae_mev=14),
    Subject("qm9", "gap"): _qm9(_GAUSSIAN, gap_mae_mev=30),
    Subject("qm9", "r2"): _qm9(f"{_BESSEL}_drop01", r2_mae_bohr2=0.251),
    Subject("qm9", "zpve"): _qm9(_BESSEL, zpve_mae_mev=1.26),
    Subject("qm9", "u0"): _qm9_total(u0_mae_mev=6.59),
    Subject("qm9", "u298"): _qm9_total(u298_mae_mev=6.74),
    Subject("qm9", "h298"): _qm9_total(h298_mae_mev=6.63),
    Subject("qm9", "g298"): _qm9_total(g298_mae_mev=7.63),
    Subject("qm9", "cv"): _qm9(_GAUSSIAN, cv_mae_cal_per_mol_kelvin=0.023),
    Subject("md17", "aspirin"): _ASPIRIN,
    Subject("oc20_is2re", "energy", lmax=1): _IS2RE,
    Subject("oc20_is2re", "energy", lmax=1, variant="nonlinear is2rs"): _IS2RE_IS2RS,
}


def subject_of_run(config: Mapping[str, Any]) -> Subject | None:
    """What a run is about; `None` for a data set without published figures.

    Args:
      config: of the run, plain, with the parts `data` and `model`.
    """
    name, options = config["data"]["name"], config["data"]["options"]
    if name in ("md17", "rmd17"):
        dataset, about = "md17", options["molecule"]
    elif name == "qm9":
        dataset, about = "qm9", find_target(options["target"]).name
    elif name == "oc20_is2re":
        dataset, about = name, "energy"
    else:
        return None
    irreps = e3nn.Irreps(config["model"]["irreps_sh"])
    return Subject(dataset, about, max(irreps.ls), _variant(config["model"], irreps))


def find_published(config: Mapping[str, Any]) -> PublishedRun | None:
    """What was published of what a run is about; `None` where nothing is known.

    It is of the same task and the same kind of model. What else differs, such as the number of
    training structures or the revision of the data, is for `comparison.compare` to say.

    Args:
      config: of the run, plain.
    """
    subject = subject_of_run(config)
    return None if subject is None else PUBLISHED.get(subject)


def _variant(model: Mapping[str, Any], irreps: e3nn.Irreps) -> str:
    if model["attention"] == "dot_product":
        parts = ["dot_product"]
    else:
        parts = ["nonlinear" if model["nonlinear_message"] else "linear"]
    parts += ["e3"] * any(irrep.p < 0 for _, irrep in irreps)
    parts += ["dens"] * bool(model["use_denoising"])
    parts += ["is2rs"] * bool(model["use_auxiliary_task"])
    return " ".join(parts)
