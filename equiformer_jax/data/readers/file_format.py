"""What kind of file somebody has brought, told by its first bytes."""

from __future__ import annotations

# So many bytes are enough.
HEAD_SIZE = 512

# How files of other formats begin: what stands there, at which byte, and what it then is.
_SIGNATURES = (
    (b"PK\x03\x04", 0, "a zip archive"),
    (b"PK\x05\x06", 0, "an empty zip archive"),
    (b"\x93NUMPY", 0, "a single NumPy array (.npy)"),
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file"),
    (b"\xde\xc0\xef\xbe", 16, "an LMDB database"),
    (b"BZh", 0, "a bzip2 archive"),
    (b"\x1f\x8b", 0, "a gzip archive"),
    (b"\xfd7zXZ", 0, "an xz archive"),
    (b"ustar", 257, "a tar archive"),
    (b"SQLite format 3", 0, "an SQLite database"),
    (b"\x80", 0, "a Python pickle"),
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the file itself"),
    (bytes(64), 0, "a file of zeros, perhaps an unfinished download"),
    (b"<", 0, "a web page or XML, such as an error page of a server"),
)
_CONTROL_CHARACTERS = frozenset(map(chr, range(32))) - frozenset("\t\n\r\f\v")


def describe_format(head: bytes) -> str:
    """What a file with these first bytes (`HEAD_SIZE` are enough) looks like, with an article."""
    if not head:
        return "an empty file"
    for signature, start, description in _SIGNATURES:
        if head[start : start + len(signature)] == signature:
            return description
    text = head.decode("utf-8", errors="ignore")
    # The last character may be cut in the middle, which loses up to three bytes.
    is_text = len(text.encode()) >= len(head) - 3 and not _CONTROL_CHARACTERS.intersection(text)
    if is_text and text.strip():
        return f"a text file that begins with {text.strip().splitlines()[0][:60]!r}"
    return f"a file of an unknown format that begins with the bytes {head[:8]!r}"
