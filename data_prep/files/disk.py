"""Files that are whole or not there, and a disk's troubles told in one line.

Whoever writes a result writes it through ``replacing``: in a hidden folder beside it that no other process has, never
through a link that somebody planted there, forced to the disk and put in place by a rename. So a kill, a full disk, a
power cut or a second process that writes the same file leaves one whole result or the other.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import DataError, UserError, one_line

if TYPE_CHECKING:
    import netCDF4  # slow to import, and the command line starts without it

_TROUBLES = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EROFS: "the file system is read-only; choose another folder, or have it mounted for writing",
    errno.EACCES: "permission denied; choose another folder, or have the permission given",
    errno.EPERM: "not permitted; choose another folder, or have the permission given",
    errno.EIO: "the disk failed (input/output error); check the disk",
    errno.EEXIST: "a file lies where a folder is needed; choose another place",
    errno.ENOTDIR: "a file lies where a folder is needed; choose another place",
    errno.EISDIR: "a folder lies where a file is to be written; choose another name",
    errno.ELOOP: "a symbolic link stands where a file is to be written; remove it",
    errno.EFBIG: "the file is larger than it may be; raise the limit (ulimit -f)",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}

_LOCK_TRIES = 100


class DiskError(UserError):
    """The disk refused; what was written before is whole, and the same call goes on from there."""


def trouble(error: BaseException) -> str | None:
    """What the disk did and what to do, or ``None`` where it is not to blame.

    The error itself, or one that it was raised from, is an ``OSError`` of that kind, or quotes one: TensorStore and
    HDF5 report the system's words inside their own errors.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _TROUBLES:
            return _TROUBLES[cause.errno]
        for number, text in _TROUBLES.items():
            if os.strerror(number) in str(cause):
                return text
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def disk_in_one_line(what: Path | str) -> Iterator[None]:
    """Turns what a disk does to the work inside into one line.

    Args:
      what: The file or folder that is worked on, for the message.

    Raises:
      DiskError: in place of the error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = trouble(error)
        if said is None:
            raise
        raise DiskError(f"{_place(error) or what}: {said}, then run the same command again, it goes on") from None


def _place(error: Exception) -> str | None:
    """The file that the error names, where what is wrong is wrong with that file and not with the whole disk."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP):
        return error.filename if isinstance(error.filename, str) else None
    return None


@contextmanager
def replacing(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """A name to write under; what lies there takes the place of ``path`` when the block ends well.

    Args:
      path: What is to be written; its folder is made if need be.
      folder: Whether a folder is to be written; else an older one in that place is refused before there is any work.

    Raises:
      DiskError: it cannot be written; what was there before is untouched.
      UserError: another process is writing it.
    """
    with writing(path), hidden_beside(path, folder=folder) as temporary:
        yield temporary
        put_in_place(temporary, path)


@contextmanager
def hidden_beside(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """A name of this process alone in a hidden folder beside ``path``, which is removed at the end; see ``replacing``.

    Raises:
      OSError: the disk does not let it be made, or a folder is there and a file is to come.
      UserError: another process is writing ``path``.
    """
    if not folder:
        _refuse_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.partial")
    temporary = hidden / path.name
    lock = _lock(hidden, path)
    try:
        take_back(temporary, path)
        for left in hidden.iterdir():  # by a process that was killed
            remove(left)
        try:
            yield temporary
        finally:
            with suppress(OSError):
                remove(hidden)
    finally:
        os.close(lock)


def _lock(folder: Path, path: Path) -> int:
    """Makes a folder and locks it, for as long as the descriptor that is returned is open.

    Whoever had it may remove it, and others make it, between any two of these steps: then it is tried again.
    """
    busy = UserError(f"{path}: another process is writing it; wait for that, or choose another name")
    for left in reversed(range(_LOCK_TRIES)):
        try:
            if folder.is_symlink() or not folder.is_dir():
                folder.unlink(missing_ok=True)  # what has become a folder meanwhile is refused, and may be in use
            folder.mkdir(exist_ok=True)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
            if left:
                continue
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise busy from None
        except OSError:
            return lock  # a file system that locks no folders
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), folder.stat(follow_symlinks=False)):
                return lock
        os.close(lock)  # whoever had it has just removed it
    raise busy


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns whatever keeps a file from being written into one line.

    Raises:
      DiskError: in place of the error.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # netCDF4 raises RuntimeError for failures inside HDF5
        if isinstance(error, RuntimeError) and not str(error).startswith("NetCDF"):
            raise
        said = None if _only_claims_permission(error) else trouble(error)
        said = said or f"{one_line(error)}; check free space and permissions"
        raise DiskError(f"{path}: cannot be written: {said}, then run the same command again") from None


def _only_claims_permission(error: Exception) -> bool:
    """Whether a file is said to lack permission in a folder that may be written: netCDF says so of a full disk too."""
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str):
        return False
    folder = next(p for p in Path(error.filename).absolute().parents if p.exists())  # the hidden one is gone by now
    return os.access(folder, os.W_OK | os.X_OK)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what HDF5 says of damaged bytes, its checksums among them, into one line.

    Raises:
      DataError: in place of the error.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("NetCDF"):
            raise
        raise DataError(f"{path}: cannot be read ({error}); the file is damaged: make it again") from None


def close_once(file: netCDF4.Dataset) -> None:
    """Closes a file; one that cannot be written to its end is neither closed nor ever forgotten.

    netCDF crashes the process when a full disk fails a ``close``, or when netCDF4 closes such a file again as it is
    forgotten; a ``sync`` that fails is an error like any other, and so is the disk's own that follows it. What a close
    writes after both is one mark in the file's first bytes.

    Raises:
      OSError, RuntimeError: it could not be written to its end.
    """
    try:
        file.sync()
        _to_disk(file.filepath())
        file.close()
    except BaseException:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
        raise


def _to_disk(path: str) -> None:
    """Waits until the disk has a file; some, and most networks', say only now that they have no room."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def closing_once(file: netCDF4.Dataset) -> Iterator[None]:
    """``close_once`` at the end of a block."""
    try:
        yield
    finally:
        close_once(file)


def put_in_place(new: Path, path: Path) -> None:
    """Renames a finished file or folder; an older folder is deleted only once it has made way, and only for a folder.

    Raises:
      OSError: the disk refuses, or ``path`` is a folder and ``new`` is none.
    """
    if new.is_file():
        _to_disk(str(new))
    if path.is_symlink() or not path.is_dir():
        new.replace(path)
        return
    if not new.is_dir():
        _refuse_folder(path)
    old = _making_way(new)
    remove(old)
    path.replace(old)
    new.replace(path)
    remove(old)


def _refuse_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def take_back(new: Path, path: Path) -> None:
    """Undoes a ``put_in_place`` that was killed between its two renames."""
    if (old := _making_way(new)).exists() and not path.exists():
        old.replace(path)


def _making_way(new: Path) -> Path:
    """Where a folder goes for which ``new`` comes: beside that one, for no name beside its own is ours."""
    return new.with_name(f"{new.name}.replaced")


def discard(path: Path) -> None:
    """Removes a result at once: a folder loses its name before its files are deleted one by one."""
    gone = path.with_name(f".{path.name}.discarded")
    remove(gone)
    if path.is_symlink() or path.exists():
        path.replace(gone)
        remove(gone)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def link(path: Path, to: Path) -> None:
    """Gives a finished file, or every file of a folder, another name, whole or not at all; copied to another disk.

    Nothing may ever write into such a file: as all results are, it is replaced and removed only.

    Raises:
      DiskError: it cannot be written; what was there before is untouched.
      UserError: somebody else removed it meanwhile, or another process is writing ``to``.
    """
    with replacing(to, folder=path.is_dir()) as temporary:
        try:
            for file in path.rglob("*") if path.is_dir() else (path,):
                if not file.is_dir():
                    target = temporary / file.relative_to(path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link_or_copy(file, target)
        except FileNotFoundError:
            raise UserError(f"{path}: is being removed or replaced, so it cannot be taken; try again") from None


def _link_or_copy(path: Path, to: Path) -> None:
    try:
        to.hardlink_to(path)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        shutil.copyfile(path, to)
        _to_disk(str(to))


def remove(path: Path) -> None:
    """Removes a file, a folder with all that it holds, or a link (never what it points to); nothing if not there."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
