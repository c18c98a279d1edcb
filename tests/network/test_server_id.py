from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from voice_streaming.network.server_id import NoServerId, server_id
from voice_streaming.settings.model import ServerSettings


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    server = ServerSettings(data_dir=str(tmp_path / "data"))
    made = server_id(server, {})
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert server_id(server, {}) == made
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["server-id"]
    assert server_id(ServerSettings(data_dir=str(tmp_path / "other")), {}) != made


def test_all_that_start_at_once_in_one_folder_have_the_same(tmp_path: Path) -> None:
    server = ServerSettings(data_dir=str(tmp_path))
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: server_id(server, {}), range(32)))
    assert len(ids) == 1


def test_without_hard_links_it_is_kept_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    server = ServerSettings(data_dir=str(tmp_path))
    assert server_id(server, {}) == server_id(server, {})
    assert [path.name for path in tmp_path.iterdir()] == ["server-id"]


@pytest.mark.parametrize("content", ["", "not an id\n", "\xff"])
def test_a_damaged_file_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "server-id").write_text(content, encoding="latin-1")
    with pytest.raises(NoServerId, match="server-id holds no id: remove the file"):
        server_id(ServerSettings(data_dir=str(tmp_path)), {})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoServerId, match=r"set server\.data_dir to another folder"):
        server_id(ServerSettings(data_dir=str(tmp_path / "file")), {})
