import stat
import zipfile
from pathlib import Path

import pytest

from exporters import package
from exporters.errors import PackageCorrupt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "package"
    (root / "runtimes" / "python").mkdir(parents=True)
    (root / "model.onnx").write_bytes(bytes(range(256)) * 40)
    (root / "metadata.json").write_text('{"a": 1}\n')
    (root / "runtimes" / "python" / "example.py").write_text("print()\n" * 100)
    package.write_manifest(root)
    return root


def test_a_package_survives_packing(folder: Path, tmp_path: Path) -> None:
    package.pack(folder, tmp_path / "one.zip")
    package.unpack(tmp_path / "one.zip", tmp_path / "again")

    assert package.verify(tmp_path / "again") == package.verify(folder)
    assert (tmp_path / "again/model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


def test_a_changed_file_is_named(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[100] ^= 1
    (folder / "model.onnx").write_bytes(data)

    with pytest.raises(PackageCorrupt, match=r"model\.onnx does not match") as caught:
        package.verify(folder)

    assert caught.value.details["file"] == "model.onnx"


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "runtimes/python/example.py").unlink()

    with pytest.raises(PackageCorrupt, match=r"runtimes/python/example\.py is missing"):
        package.verify(folder)


def test_an_extra_file_is_named(folder: Path) -> None:
    (folder / "runtimes/evil.so").write_bytes(b"\x7fELF")

    with pytest.raises(PackageCorrupt, match=r"runtimes/evil\.so is not in"):
        package.verify(folder)


def test_a_link_is_refused(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("/etc/hostname")

    with pytest.raises(PackageCorrupt, match="not a plain file"):
        package.verify(folder)


def test_a_layout_of_the_future_is_refused(folder: Path) -> None:
    text = (folder / "manifest.json").read_text().replace('"format_version": 1', '"format_version": 2')
    (folder / "manifest.json").write_text(text)

    with pytest.raises(PackageCorrupt, match="Update this software"):
        package.verify(folder)


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/../../evil", "C:\\evil", "a\\..\\..\\evil"], ids=str
)
def test_a_name_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr(name, "evil")

    with pytest.raises(PackageCorrupt, match="refused"):
        package.unpack(tmp_path / "evil.zip", tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("model.onnx")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")

    with pytest.raises(PackageCorrupt, match="refused"):
        package.unpack(tmp_path / "evil.zip", tmp_path / "out")


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"zeros{number}", bytes(3_000_000))

    with pytest.raises(PackageCorrupt, match="more than 5,000,000 bytes"):
        package.unpack(tmp_path / "bomb.zip", tmp_path / "out", limit_bytes=5_000_000)

    assert not (tmp_path / "out").exists()


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("model.onnx", "a")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("model.onnx", "b")

    with pytest.raises(PackageCorrupt):
        package.unpack(tmp_path / "twice.zip", tmp_path / "out")


def test_something_else_than_a_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")

    with pytest.raises(PackageCorrupt, match="not a readable zip"):
        package.unpack(tmp_path / "text.zip", tmp_path / "out")


def test_packing_depends_on_content_alone(folder: Path, tmp_path: Path) -> None:
    package.pack(folder, tmp_path / "one.zip")
    for path in folder.rglob("*"):
        path.chmod(0o755)
    package.pack(folder, tmp_path / "two.zip")

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
