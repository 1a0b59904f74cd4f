from __future__ import annotations

import pytest

from equiformer_jax.data.download.sources import SOURCES, RemoteFile, readable_size
from tests.paths import REAL_DATA, needs_real_data

URL = "http://localhost/x"


def test_no_two_sources_share_a_file():
    places = [(key.partition("/")[0], source.file_name) for key, source in SOURCES.items()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(("family", "count"), [("md17", 16), ("md22", 7), ("qm9", 4), ("oc20", 12)])
def test_the_families_are_complete(family, count):
    assert sum(key.startswith(family + "/") for key in SOURCES) == count


def test_some_sources_are_as_published():
    assert (
        SOURCES["md17/aspirin"]
        .urls[0]
        .endswith("quantum-machine.org/gdml/data/npz/md17_aspirin.npz")
    )
    assert SOURCES["rmd17"].file_name == "rmd17.tar.bz2"
    assert SOURCES["oc20/is2res_train_val_test_lmdbs"].md5 == "cfc04dd2f87b4102ab2f607240d25fb1"
    nanotube = SOURCES["md22/double-walled_nanotube"].urls
    assert [url.rpartition("/")[2] for url in nanotube] == [
        "md22_double-walled_nanotube.npz",
        "md22_dw_nanotube.npz",
    ]


@needs_real_data
def test_every_address_is_in_the_list_of_public_ones():
    text = (REAL_DATA / "URLS.md").read_text()
    for key, source in SOURCES.items():
        for url in source.urls:
            base, _, name = url.rpartition("/")
            if key.startswith("oc20/s2ef_val"):
                name = name.removeprefix("s2ef_val_").removesuffix(".tar")
            known = (url in text) or (base + "/" in text and name in text)
            assert known, (key, url)
        for checksum in (source.sha256, source.md5):
            assert checksum is None or checksum in text, key


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({}, "size and checksum are not known"),
        ({"size": 964}, "964 bytes"),
        ({"about": 8_100_000_000, "md5": "0" * 32}, f"about 8.1 GB, md5 {'0' * 32}"),
        ({"sha256": "0" * 12}, f"sha256 beginning with {'0' * 12}"),
        ({"sha256": "0" * 64}, f"sha256 {'0' * 64}"),
    ],
)
def test_what_is_known_is_described(known, text):
    assert RemoteFile((URL,), "x", **known).description == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"urls": ()}, "urls: expected a tuple of http addresses"),
        ({"urls": URL}, "urls: expected a tuple of http addresses"),
        ({"urls": ("/etc/hosts",)}, "urls: expected a tuple of http addresses"),
        ({"file_name": "a/b"}, "file_name: expected the name of a file"),
        ({"file_name": ".."}, "file_name: expected the name of a file"),
        ({"sha256": "abc"}, "sha256: expected at least 12 digits"),
        ({"md5": "abc"}, "md5: expected 32 digits"),
    ],
)
def test_impossible_sources_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RemoteFile(**{"urls": (URL,), "file_name": "x", **arguments})


def test_sizes_are_readable():
    assert [readable_size(size) for size in (0, 999, 1000, 86_144_227, 2.25e11)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "86.1 MB",
        "225.0 GB",
    ]
