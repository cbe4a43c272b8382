"""A zip archive of a few named files: written byte for byte the same, read without trusting it.

The reader opens no name from an archive as a path, unpacks nothing and runs nothing. It takes an archive only in the
form that `write_archive` gives it: the files in order, not compressed, without gaps or extra fields. So nothing an
archive declares can make the reader allocate more than the archive's own size.
"""

import io
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from jtf.errors import UserError
from jtf.results.run_directory import write_atomically

LOCAL_HEADER = 30
"""Bytes of a local file header without the name (PKWARE APPNOTE 4.3.7)."""
CENTRAL_HEADER, END_RECORD = 46, 22
"""Bytes of an entry of the central directory without the name, and of the record at the end (4.3.12, 4.3.16)."""
LARGEST = 2**31
"""Bytes of the largest archive that is read."""
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date of the format, of every file: the same content is the same archive."""
ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, IndexError, struct.error)
"""What `zipfile` raises for a damaged archive."""


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` (name -> content) to `path`, atomically, in their order and not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, FIRST_DATE)
            info.create_system = 3  # Unix, whatever wrote it.
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    write_atomically(path, buffer.getvalue())


def read_archive(path: Path, known: tuple[str, ...]) -> dict[str, bytearray]:
    """Return the content of the files of an archive by name; raise `UserError` for anything `write_archive` avoids.

    `known` are the names a file may have, in the order the files have.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; name a bundle that jtf.export wrote.")
    size = path.stat().st_size
    if size > LARGEST:
        raise UserError(f"{path} has {size} bytes and at most {LARGEST} are read; name a bundle that jtf.export wrote.")
    with path.open("rb") as file:
        return {info.filename: _content(file, info, path) for info in _entries(file, size, known, path)}


def _entries(file: BinaryIO, size: int, known: tuple[str, ...], path: Path) -> list[zipfile.ZipInfo]:
    """Return the entries of an archive of `size` bytes, refused unless they are as `write_archive` writes them."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except ZIP_ERRORS as error:
        raise UserError(f"{path} is not a whole zip archive ({error}); export or download it again.") from None
    for info in entries:
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UserError(f"{path} is refused: {info.filename!r} in it is a symbolic link; export it again.")
        if info.filename not in known:
            raise UserError(
                f"{path} is refused: {info.filename!r} is no file of a bundle, which holds {', '.join(known)}; "
                "export it again."
            )
    names = [info.filename for info in entries]
    if names != [name for name in known if name in names]:
        raise UserError(
            f"{path} is refused: its files {', '.join(names)} are repeated or out of order; export it again."
        )
    offset = 0
    for info in entries:
        if info.file_size > size:
            raise UserError(
                f"{path} is refused: {info.filename} declares {info.file_size} bytes, the archive has {size}; "
                "export or download it again."
            )
        plain = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not plain or info.header_offset != offset or info.flag_bits:
            raise UserError(
                f"{path} is refused: {info.filename} is not stored as jtf.export stores it; export it again."
            )
        offset += LOCAL_HEADER + len(info.filename) + info.file_size
    whole = offset + sum(CENTRAL_HEADER + len(name) for name in names) + END_RECORD
    if size != whole:
        raise UserError(
            f"{path} is refused: its files need an archive of {whole} bytes, it has {size}; download it again."
        )
    return entries


def _content(file: BinaryIO, info: zipfile.ZipInfo, path: Path) -> bytearray:
    content = bytearray(info.file_size)
    file.seek(info.header_offset + LOCAL_HEADER + len(info.filename))
    if file.readinto(content) != info.file_size:  # type: ignore[attr-defined]
        raise UserError(f"{path} is cut off inside {info.filename}; export or download it again.")
    return content
