"""Recordings behind a URL, read as streams through fsspec (an extra of this package)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from fluidaudio_cli.errors import AudioError, FluidAudioError, HostError, reason_of
from fluidaudio_cli.recordings import Url


def check_readable(url: Url) -> None:
    """Make sure that there is what reads such URLs; nothing is asked of the server.

    Raises ``HostError`` with what to install.
    """
    try:
        import fsspec
    except ImportError as error:
        raise HostError(
            f"{url} cannot be read: fsspec is not installed", "pip install 'fluidaudio[remote]'"
        ) from error
    scheme = url.text.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:  # fsspec names the package that is missing
        raise HostError(f"{url} cannot be read: {error}", "install it, or copy the file") from error


def open_remote(url: Url) -> BinaryIO:
    """Open it; parts are fetched as they are read. Raises ``AudioError``, ``HostError``."""
    check_readable(url)
    import fsspec

    with _told(url):
        return cast("BinaryIO", _Remote(url, fsspec.open(url.text, "rb").open()))


def files_below(url: Url) -> Iterator[Url]:
    """All files below a folder, at any depth, sorted. Raises ``AudioError``, ``HostError``."""
    check_readable(url)
    import fsspec

    with _told(url):
        system, folder = fsspec.url_to_fs(url.text)
        names = sorted(system.find(folder))
    return (Url(system.unstrip_protocol(name)) for name in names)


class _Remote:
    """A remote file whose errors are ``AudioError``: those of fsspec share no class."""

    def __init__(self, url: Url, file: Any) -> None:
        self._url, self._file = url, file

    def read(self, count: int = -1) -> bytes:
        with _told(self._url):
            return bytes(self._file.read(count))

    def seek(self, offset: int, whence: int = 0) -> int:
        with _told(self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def seekable(self) -> bool:
        # Of an answer without a length fsspec says that it is, and then refuses.
        return getattr(self._file, "size", 0) is not None and bool(self._file.seekable())

    def close(self) -> None:
        self._file.close()


@contextmanager
def _told(url: Url) -> Iterator[None]:
    try:
        yield
    except FluidAudioError:
        raise
    except FileNotFoundError as error:
        raise AudioError(f"{url} does not exist", "check the address") from error
    except Exception as error:
        raise AudioError(
            f"cannot read {url}: {reason_of(error)}", "check the address and the access rights"
        ) from error
