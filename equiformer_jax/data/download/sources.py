"""Where the public data sets are: addresses, sizes and checksums, by the name of the data set.

Quantum-machine.org publishes no checksums, so an MD17 or MD22 file is only checked to be a whole
zip archive. What is known of the others was published with them or by loaders that verify it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_FEWEST_DIGITS = 12
_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A public file, and how to know that one has it whole.

    Attributes:
      urls: its addresses, tried in this order.
      file_name: what it is called here; its ending says what it must contain.
      size: bytes, where the exact number is known.
      about: bytes, where only that is known; for messages.
      sha256: hexadecimal digits, all of them or at least the first twelve.
      md5: all hexadecimal digits.

    Raises:
      ValueError: there is no address, the name is not that of a file, or a checksum is too short.
    """

    urls: tuple[str, ...]
    file_name: str
    size: int | None = None
    about: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be fetched or checked."""
        urls = () if isinstance(self.urls, str) else self.urls
        if not urls or not all(url.startswith(("http://", "https://")) for url in urls):
            raise ValueError(f"urls: expected a tuple of http addresses, got {self.urls!r}")
        if not self.file_name or "/" in self.file_name or self.file_name in (".", ".."):
            raise ValueError(f"file_name: expected the name of a file, got {self.file_name!r}")
        if self.sha256 is not None and len(self.sha256) < _FEWEST_DIGITS:
            raise ValueError(f"sha256: expected at least {_FEWEST_DIGITS} digits: {self.sha256!r}")
        if self.md5 is not None and len(self.md5) != 32:
            raise ValueError(f"md5: expected 32 digits, got {self.md5!r}")

    @property
    def description(self) -> str:
        """Size and checksum as far as they are known, for a person who fetches it by hand."""
        known = []
        if self.size is not None:
            known.append(f"{self.size} bytes")
        elif self.about is not None:
            known.append(f"about {readable_size(self.about)}")
        if self.sha256 is not None:
            beginning = "" if len(self.sha256) == 64 else " beginning with"
            known.append(f"sha256{beginning} {self.sha256}")
        if self.md5 is not None:
            known.append(f"md5 {self.md5}")
        return ", ".join(known) or "size and checksum are not known"


def readable_size(size: float) -> str:
    """A number of bytes as people say it: `85.1 MB`."""
    for name, factor in _UNITS:
        if size >= factor:
            return f"{size / factor:.1f} {name}"
    return f"{size:.0f} bytes"


_QUANTUM_MACHINE = (
    "http://quantum-machine.org/gdml/data/npz/",
    "http://www.quantum-machine.org/gdml/data/npz/",
)
_MD22 = (
    "http://www.quantum-machine.org/gdml/repo/datasets/",
    "http://quantum-machine.org/gdml/data/npz/",
)
_FIGSHARE = "https://ndownloader.figshare.com/files/"
_MOLNET = "https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/molnet_publish/"
_OPEN_CATALYST = "https://dl.fbaipublicfiles.com/opencatalystproject/data/"


def _mirrored(bases: tuple[str, ...], file_name: str) -> RemoteFile:
    return RemoteFile(tuple(base + file_name for base in bases), file_name)


def _md17() -> dict[str, RemoteFile]:
    """MD17 by molecule, and the coupled-cluster sets, each a zip with a train and a test file."""
    files = {
        "benzene": "md17_benzene2017.npz",
        "uracil": "md17_uracil.npz",
        "naphthalene": "md17_naphthalene.npz",
        "aspirin": "md17_aspirin.npz",
        "salicylic_acid": "md17_salicylic.npz",
        "malonaldehyde": "md17_malonaldehyde.npz",
        "ethanol": "md17_ethanol.npz",
        "toluene": "md17_toluene.npz",
        "paracetamol": "paracetamol_dft.npz",
        "azobenzene": "azobenzene_dft.npz",
        "benzene2018": "benzene2018_dft.npz",
        "benzene_ccsd_t": "benzene_ccsd_t.zip",
        "aspirin_ccsd": "aspirin_ccsd.zip",
        "malonaldehyde_ccsd_t": "malonaldehyde_ccsd_t.zip",
        "ethanol_ccsd_t": "ethanol_ccsd_t.zip",
        "toluene_ccsd_t": "toluene_ccsd_t.zip",
    }
    return {f"md17/{key}": _mirrored(_QUANTUM_MACHINE, name) for key, name in files.items()}


def _md22() -> dict[str, RemoteFile]:
    """MD22 by system; the two places give the nanotube different names."""
    systems = ("Ac-Ala3-NHMe", "DHA", "stachyose", "AT-AT", "AT-AT-CG-CG", "buckyball-catcher")
    files = {f"md22/{system}": _mirrored(_MD22, f"md22_{system}.npz") for system in systems}
    nanotube = ("md22_double-walled_nanotube.npz", "md22_dw_nanotube.npz")
    urls = tuple(base + name for base, name in zip(_MD22, nanotube, strict=True))
    files["md22/double-walled_nanotube"] = RemoteFile(urls, nanotube[0])
    return files


def _qm9() -> dict[str, RemoteFile]:
    """QM9 as it was published, and the molecules as one sdf file with a table of targets."""
    return {
        "qm9/raw": RemoteFile(
            (_FIGSHARE + "3195389",),
            "dsgdb9nsd.xyz.tar.bz2",
            size=86_144_227,
            sha256="3a63848ac80691bdb8d41834b575afad345b9300d7a2db0c38adb7f6eaa8360c",
        ),
        "qm9/sdf": RemoteFile((_MOLNET + "qm9.zip",), "qm9.zip"),
        "qm9/uncharacterized": RemoteFile(
            (_FIGSHARE + "3195404",),
            "uncharacterized.txt",
            size=486_752,
            sha256="3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24",
        ),
        "qm9/atomref": RemoteFile(
            (_FIGSHARE + "3195395",),
            "atomref.txt",
            size=964,
            sha256="af739d4a0fbe894a56f346ad6045ee1b74c58f8a8c9ef3fbfed920c9ad8b00f9",
        ),
    }


def _oc20() -> dict[str, RemoteFile]:
    """The archives of OC20; the sizes are those of its documentation, packed."""
    archives = {
        "is2res_train_val_test_lmdbs.tar.gz": (8.1e9, "cfc04dd2f87b4102ab2f607240d25fb1"),
        "is2re_test_challenge_2021.tar.gz": (1.3e9, "aed414cdd240fbb5670b5de6887a138b"),
        "s2ef_train_200K.tar": (344e6, "f8d0909c2623a393148435dede7d3a46"),
        "s2ef_train_2M.tar": (3.4e9, "953474cb93f0b08cdc523399f03f7c36"),
        "s2ef_train_20M.tar": (34e9, "863bc983245ffc0285305a1850e19cf7"),
        "s2ef_train_all.tar": (225e9, "12a7087bfd189a06ccbec9bc7add2bcd"),
        "s2ef_val_id.tar": (1.9e9, "f57f7f5c1302637940f2cc858e789410"),
        "s2ef_val_ood_ads.tar": (1.9e9, "431ab0d7557a4639605ba8b67793f053"),
        "s2ef_val_ood_cat.tar": (1.9e9, "532d6cd1fe541a0ddb0aa0f99962b7db"),
        "s2ef_val_ood_both.tar": (1.9e9, "5731862978d80502bbf7017d68c2c729"),
        "s2ef_test_lmdbs.tar.gz": (30e9, "bcada432482f6e87b24e14b6b744992a"),
        "tutorial_data.tar.gz": (None, None),
    }
    return {
        f"oc20/{name.partition('.')[0]}": RemoteFile(
            (_OPEN_CATALYST + name,), name, about=None if size is None else int(size), md5=md5
        )
        for name, (size, md5) in archives.items()
    }


_RMD17 = RemoteFile(
    (
        "https://figshare.com/ndownloader/files/23950376",
        "https://archive.materialscloud.org/record/file?filename=rmd17.tar.bz2&record_id=466",
    ),
    "rmd17.tar.bz2",
    sha256="cddeea2ec2c4",
)

SOURCES: Mapping[str, RemoteFile] = {**_md17(), "rmd17": _RMD17, **_md22(), **_qm9(), **_oc20()}
