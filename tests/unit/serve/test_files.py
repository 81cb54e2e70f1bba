"""The appliance's files over WSGI."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from ipva_storage import appliance, boot, dump, fat
from ipva_storage.device import Folder
from ipva_storage.serve import ApplianceFiles

WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.fixture
def files(tmp_path: Path) -> ApplianceFiles:
    """An appliance with a file on its CompactFlash and a crash dump."""
    machine = appliance.create(Folder(tmp_path / "vm"), cf_bytes=16 * 2**20)
    disk = machine.open_disk(appliance.Role.CF, writable=True)
    volume = fat.open_first(disk)
    volume.mkdir("/Announcements")
    volume.write("/Announcements/(hello).txt", b"hello\n")
    volume.flush()
    disk.close()
    disk = machine.open_disk(appliance.Role.DUMP, writable=True)
    dump.open(disk).append("trap", "trap at 0x1234\n", time=WHEN)
    disk.flush()
    disk.close()
    return ApplianceFiles(machine)


def ask(application: ApplianceFiles, path: str, method: str = "GET") -> tuple[str, bytes]:
    """Status and body of one request, with the protocol checked on the way."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": ""}
    seen: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        seen.append(status)
        return lambda data: None

    answer: Iterable[bytes] = validator(application)(environ, start_response)
    try:
        body = b"".join(answer)
    finally:
        answer.close()  # type: ignore[attr-defined]
    return seen[0], body


@pytest.mark.parametrize("path", ["/drive/HD-BOOT/ipva.bin", "/DRIVE/hd-boot/IPVA.BIN"])
def test_the_firmware_is_served_whatever_the_case(files: ApplianceFiles, path: str) -> None:
    """The boot disk's file comes whole, path words in any case."""
    assert ask(files, path) == ("200 OK", boot.demo_firmware())


def test_a_folder_is_listed_with_links(files: ApplianceFiles) -> None:
    """Folders show their entries; the links lead to them."""
    status, page = ask(files, "/drive/CF0/Announcements")
    assert status == "200 OK"
    assert b'href="/drive/CF0/Announcements/%28hello%29.txt"' in page
    assert ask(files, "/drive/CF0/Announcements/(hello).txt") == ("200 OK", b"hello\n")


def test_the_newest_crash_dump_is_served_as_text(files: ApplianceFiles) -> None:
    """`/crash_dump.txt` is the dump's text."""
    assert ask(files, "/crash_dump.txt") == ("200 OK", b"trap at 0x1234\n")


@pytest.mark.parametrize(
    "path", ["/drive/CF0/missing", "/drive/other", "/x", "/drive/CF0/../../etc/passwd"]
)
def test_what_is_not_there_is_not_found(files: ApplianceFiles, path: str) -> None:
    """Unknown pages, drives and files are 404, and no path leaves a drive."""
    assert ask(files, path)[0] == "404 Not Found"


def test_nothing_can_be_written(files: ApplianceFiles) -> None:
    """Any method but GET and HEAD is refused; HEAD has no body."""
    assert ask(files, "/drive/CF0/new", "PUT")[0] == "405 Method Not Allowed"
    assert ask(files, "/crash_dump.txt", "HEAD") == ("200 OK", b"")


def test_a_damaged_disk_is_an_error_page(files: ApplianceFiles, tmp_path: Path) -> None:
    """A disk that cannot be opened answers 500 and a line of text."""
    (tmp_path / "vm" / "hd-cf.vmdk").write_bytes(b"gone")
    status, body = ask(files, "/drive/CF0/")
    assert status == "500 Internal Server Error"
    assert body.count(b"\n") == 1
