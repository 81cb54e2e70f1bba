"""The files that an appliance serves, as a read-only WSGI application.

`/drive/HD-BOOT` and `/drive/CF0` list and deliver the files of the boot disk and the CompactFlash;
`/crash_dump.txt` is the newest crash dump. Path words match whatever their case.
Source: the seed names all three paths; the page layout is chosen.
"""

from __future__ import annotations

import html
import mimetypes
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ipva_storage import dump, fat
from ipva_storage.appliance import Role
from ipva_storage.errors import FatNotFoundError, IpvaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipva_storage.appliance import Appliance
    from ipva_storage.fat import FatVolume

    Respond = Callable[[str, list[tuple[str, str]]], Any]

DRIVES: Final = {"HD-BOOT": Role.BOOT, "CF0": Role.CF}


class ApplianceFiles:
    """WSGI application over one appliance. Each request opens its disk and closes it."""

    def __init__(self, appliance: Appliance) -> None:
        """Serve the files of `appliance`, read-only."""
        self._appliance = appliance

    def __call__(self, environ: dict[str, Any], start_response: Respond) -> Iterable[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain(start_response, "405 Method Not Allowed", "this is read-only\n")
        path = environ.get("PATH_INFO", "/").encode("latin-1").decode("utf-8", "replace")
        try:
            status, kind, body = self._answer([part for part in path.split("/") if part])
        except FatNotFoundError:
            return _plain(start_response, "404 Not Found", "there is no such file\n")
        except IpvaError as error:
            return _plain(start_response, "500 Internal Server Error", f"{error.message}\n")
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, parts: list[str]) -> tuple[str, str, bytes]:
        words = [part.casefold() for part in parts]
        if words == ["crash_dump.txt"]:
            return "200 OK", "text/plain; charset=utf-8", self._crash_dump().encode()
        drives = {name.casefold(): role for name, role in DRIVES.items()}
        if len(words) >= 2 and words[0] == "drive" and words[1] in drives:
            return self._drive(drives[words[1]], parts)
        if words in ([], ["drive"]):
            links = [f"drive/{name}/" for name in DRIVES] + ["crash_dump.txt"]
            return "200 OK", "text/html; charset=utf-8", _page("Appliance", "/", links)
        raise FatNotFoundError("there is no such page", where="/".join(parts))

    def _crash_dump(self) -> str:
        device = self._appliance.open_disk(Role.DUMP)
        try:
            log = dump.open(device)
            records = [record for record in log.records() if record.is_valid]
            return log.read(records[-1].sequence) if records else ""
        finally:
            device.close()

    def _drive(self, role: Role, parts: list[str]) -> tuple[str, str, bytes]:
        device = self._appliance.open_disk(role)
        try:
            return _file_or_folder(fat.open_first(device), parts)
        finally:
            device.close()


def _file_or_folder(volume: FatVolume, parts: list[str]) -> tuple[str, str, bytes]:
    inner = "/" + "/".join(parts[2:])
    entry = volume.stat(inner) if parts[2:] else None
    if entry is None or entry.is_dir:
        names = [each.name + ("/" if each.is_dir else "") for each in volume.list(inner)]
        base = "/" + "/".join(parts) + "/"
        return "200 OK", "text/html; charset=utf-8", _page(inner, base, names)
    kind = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
    return "200 OK", kind, volume.read(inner)


def _page(title: str, base: str, names: Iterable[str]) -> bytes:
    rows = "".join(
        f'<li><a href="{html.escape(quote(base + name))}">{html.escape(name)}</a></li>'
        for name in names
    )
    heading = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{heading}</title>'
        f"<h1>{heading}</h1><ul>{rows}</ul></html>"
    ).encode()


def _plain(start_response: Respond, status: str, text: str) -> list[bytes]:
    body = text.encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
