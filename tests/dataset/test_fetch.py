"""Several processes, and what is left where one of them fails; the rest is tested through the data sets."""

import hashlib
import socket

import pytest

from cl_fisher.dataset.fetch import TIMEOUT, fetch

FILES = {f"set/{name}.bin": hashlib.md5(name.encode()).hexdigest() for name in "ab"}


def write(folder, names="ab"):
    (folder / "set").mkdir(exist_ok=True)
    for name in names:
        (folder / "set" / f"{name}.bin").write_bytes(name.encode())


def listed(root):
    return sorted(path.name for path in root.rglob("*.bin") if not any(p.startswith(".") for p in path.parts))


def test_another_process_is_faster(tmp_path):
    root = tmp_path / "data"

    def download(folder):
        assert folder.parent == root, "on the same file system, so that files are moved whole"
        write(folder, "a")
        assert listed(root) == []
        fetch("Set", root, FILES, write)
        assert listed(root) == ["a.bin", "b.bin"]
        write(folder)

    fetch("Set", root, FILES, download)
    assert sorted(p.name for p in root.iterdir()) == ["set"]
    assert listed(root) == ["a.bin", "b.bin"]


def test_a_failure_leaves_what_another_process_has_done(tmp_path, refused):
    def download(_):
        fetch("Set", tmp_path / "data", FILES, write)
        raise OSError("line cut\nin two")

    refused(lambda: fetch("Set", tmp_path / "data", FILES, download), "Set is not in", "(in two)")
    assert listed(tmp_path) == ["a.bin", "b.bin"]


def test_a_download_that_lacks_a_file(tmp_path, refused):
    refused(
        lambda: fetch("Set", tmp_path, FILES, lambda to: write(to, "a")), "set/b.bin was not in what was downloaded"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [None, 3.0])
def test_a_silent_server_is_waited_for_and_others_timeouts_are_kept(tmp_path, before):
    socket.setdefaulttimeout(before)
    try:
        seen = []
        fetch("Set", tmp_path, FILES, lambda to: (seen.append(socket.getdefaulttimeout()), write(to)))
        assert seen == [TIMEOUT]
        assert socket.getdefaulttimeout() == before
    finally:
        socket.setdefaulttimeout(None)


def test_nothing_is_downloaded_that_is_there(tmp_path):
    write(tmp_path)
    fetch("Set", tmp_path, FILES, lambda _: pytest.fail("downloaded"))
