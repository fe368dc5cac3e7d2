"""Images in a zip: folders of classes, COCO and YOLO annotations."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exporters.base import TensorSpec
from exporters.datasets import DatasetFile, open_dataset, open_reader
from exporters.datasets.base import Dataset
from exporters.errors import InvalidDataset
from exporters.processing.declared import complete_preprocessing
from exporters.processing.image import prepare, read

from ..memory import peak_bytes

DECLARED = complete_preprocessing(
    {"resize": {"method": "letterbox", "size": [16, 12]}, "normalize": {"mean": [0.5], "std": [0.5]}}
)
assert DECLARED is not None
X = TensorSpec("pixels", "float32", ("batch", 3, 12, 16))


def picture(width: int = 20, height: int = 10, seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


def zipped(path: Path, files: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def opened(path: Path, format_name: str, schema: Any = None, **options: Any) -> Dataset:
    options = {"preprocessing": DECLARED, **options}
    return open_dataset(DatasetFile(path, format_name, schema or {}), (X,), **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.zip"


def test_folders_are_classes_and_pictures_are_prepared_as_declared(path: Path) -> None:
    files = {
        f"set/{name}/{number}.png": picture(seed=number) for name in ("dog", "cat") for number in range(3)
    }
    extra = {"set/readme.txt": "hello", "__MACOSX/set/cat/0.png": b"x", "set/cat/.0.png": b"x"}
    data = opened(zipped(path, {**files, **extra}), "images")

    batches = list(data.batches(4))
    assert (data.size, data.task, data.classes) == (6, "classification", ["cat", "dog"])
    assert [int(label) for batch in batches for label in batch.labels] == [0, 0, 0, 1, 1, 1]
    assert DECLARED is not None
    wanted = [prepare(read(files[name]), DECLARED)[0] for name in sorted(files)]
    np.testing.assert_array_equal(
        np.concatenate([batch.inputs["pixels"] for batch in batches]), np.concatenate(wanted)
    )
    (some,) = data.batches(4, at_most=2, seed=4)
    np.testing.assert_array_equal(some.inputs["pixels"], np.concatenate([wanted[row] for row in some.rows]))
    assert some.labels.tolist() == [0, 1]
    assert opened(path, "images", classes=["dog", "cat"]).classes == ["dog", "cat"]


def test_a_class_that_the_model_does_not_have_is_refused(path: Path) -> None:
    zipped(path, {"cat/0.png": picture(), "cow/0.png": picture()})
    with pytest.raises(InvalidDataset, match="class 'cow', which is not among the classes: 'dog', 'cat'"):
        opened(path, "images", classes=["dog", "cat"])


def test_one_long_name_of_a_folder_takes_its_own_memory_and_not_that_of_every_image(path: Path) -> None:
    zipped(path, {**{f"cat/{number}.png": b"" for number in range(500)}, f"{'d' * 60_000}/0.png": b""})
    labels: list[str] = []

    def read_labels() -> None:
        for _, piece in open_reader(DatasetFile(path, "images")).pieces(["label"]):
            labels.extend(piece["label"])

    assert peak_bytes(read_labels) < 20e6  # 501 rows of the longest name are 120 MB
    assert labels == [*(["cat"] * 500), "d" * 60_000]


def test_images_of_one_folder_have_no_label(path: Path) -> None:
    zipped(path, {"images/0.png": picture(), "images/1.png": picture()})
    assert opened(path, "images", labelled=False).size == 2
    with pytest.raises(InvalidDataset, match="Put the images of each class into a folder"):
        opened(path, "images")


def test_a_model_without_preprocessing_takes_no_images(path: Path) -> None:
    zipped(path, {"a/0.png": picture(), "b/1.png": picture()})
    with pytest.raises(InvalidDataset, match="declares no preprocessing"):
        list(opened(path, "images", preprocessing=None).batches(2))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no image", "cannot be read"),
        (b"", "cannot be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "cannot be"),
    ],
)
def test_a_damaged_image_is_told_with_its_row(path: Path, content: bytes, words: str) -> None:
    zipped(path, {"a/0.png": picture(), "b/0.png": content})
    with pytest.raises(InvalidDataset, match=f"Row 1 of the dataset.*{words}"):
        list(opened(path, "images").batches(10))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(path: Path) -> None:
    huge = io.BytesIO()
    Image.new("1", (10_001, 10_000)).save(huge, "PNG")
    zipped(path, {"a/0.png": picture(), "b/0.png": huge.getvalue()})
    with pytest.raises(InvalidDataset, match="more than 100,000,000 pixels"):
        list(opened(path, "images").batches(10))


def test_nothing_is_written_outside(path: Path, tmp_path: Path) -> None:
    outside = tmp_path.parent / "b" / "0.png"
    zipped(path, {"../b/0.png": picture(), str(outside): picture(), "a/0.png": picture()})
    assert sum(len(batch) for batch in opened(path, "images").batches(10)) == 2
    assert sorted(tmp_path.iterdir()) == [path]
    assert not outside.exists()


def coco(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "one.png"}, {"id": 3, "file_name": "two.png"}],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 5, "bbox": [1, 2, 3, 4], "area": 9, "iscrowd": 1},
            {"id": 2, "image_id": 3, "category_id": 2, "bbox": [5, 5, 2, 2]},
        ],
        **changes,
    }


def annotation(**fields: Any) -> dict[str, Any]:
    return {"annotations": [{"image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], **fields}]}


def images(*pairs: tuple[int, str]) -> dict[str, Any]:
    return {"images": [{"id": number, "file_name": name} for number, name in pairs]}


def test_coco_annotations_are_boxes_of_each_picture(path: Path) -> None:
    pictures = {"val/one.png": picture(), "val/two.png": picture(30, 30), "val/other.png": picture()}
    data = opened(zipped(path, {**pictures, "annotations/val.json": json.dumps(coco())}), "coco")

    (batch,) = data.batches(10)
    assert (data.task, data.classes, len(batch)) == ("detection", ["cat", "dog"], 2)
    one, two = batch.labels
    assert one.boxes.shape == (0, 4)
    np.testing.assert_array_equal(two.boxes, [[1, 2, 4, 6], [5, 5, 7, 7]])
    assert (two.classes.tolist(), two.crowd.tolist(), two.areas.tolist()) == ([1, 0], [True, False], [9, 4])
    assert batch.geometries is not None
    assert (batch.geometries[1].width, batch.geometries[1].height) == (30, 30)

    (batch,) = opened(path, "coco", classes=["cow", "dog", "cat"]).batches(10)
    assert batch.labels[1].classes.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [{"id": 7, "file_name": "absent.png"}], "annotations": []}, "absent.png"),
        ({"annotations": [{"image_id": 9, "category_id": 2, "bbox": [1, 2, 3, 4]}]}, "unknown image"),
        (
            {"annotations": [{"image_id": 3, "category_id": 9, "bbox": [1, 2, 3, 4]}]},
            "unknown image or category",
        ),
        ({"annotations": [{"image_id": 3, "category_id": 2, "bbox": [1, 2, -3, 4]}]}, "width, height"),
        ({"annotations": [{"image_id": 3, "category_id": 2, "bbox": [1, 2, 3]}]}, "width, height"),
        ({"annotations": [{"image_id": 3, "category_id": 2, "bbox": "1 2 3 4"}]}, "annotations"),
        ({"categories": None}, "categories"),
        (annotation(bbox=[1, 2, 3, 10**400]), "width, height"),
        (annotation(bbox=[-(10**400), 2, 3, 4]), "width, height"),
        (annotation(bbox=[1e308, 2, 1e308, 4]), "width, height"),
        (annotation(area=10**400), "area that is no number of pixels"),
        (
            {"categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 2, "name": "cow"}]},
            "two categories with one id",
        ),
        (images((7, "one.png"), (3, "two.png"), (8, "one.png")), "more than one image .* 'one.png'"),
        (
            images((7, "one.png"), (3, "two.png"), (8, "train/one.png")),
            "more than one image .* 'train/one.png'",
        ),
        (images((7, "one.png"), (3, "two.png"), (3, "one.png")), "more than one image with the id 3"),
    ],
)
def test_wrong_coco_annotations_are_told(path: Path, changes: dict[str, Any], words: str) -> None:
    zipped(path, {"one.png": picture(), "two.png": picture(), "a.json": json.dumps(coco(**changes))})
    with pytest.raises(InvalidDataset, match=words):
        list(opened(path, "coco").batches(10))


def test_the_annotations_are_named_if_there_are_several(path: Path) -> None:
    files = {"one.png": picture(), "two.png": picture(), "a.json": json.dumps(coco()), "b.json": "{"}
    zipped(path, files)
    with pytest.raises(InvalidDataset, match=r"schema.annotations.*'a.json', 'b.json'"):
        opened(path, "coco")
    assert opened(path, "coco", {"annotations": "a.json"}).size == 2
    with pytest.raises(InvalidDataset, match=r"'b\.json' is not JSON"):
        opened(path, "coco", {"annotations": "b.json"})


def test_yolo_labels_are_boxes_in_pixels(path: Path) -> None:
    files: dict[str, bytes | str] = {
        "images/val/a.png": picture(100, 50),
        "images/val/b.png": picture(),
        "labels/val/a.txt": "1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.3 0.2 0.3 0.6\n",
        "data.yaml": "names:\n  0: cat\n  1: dog\n",
    }
    data = opened(zipped(path, files), "yolo")
    (batch,) = data.batches(10)
    assert (data.task, data.classes) == ("detection", ["cat", "dog"])
    np.testing.assert_allclose(batch.labels[0].boxes, [[40, 15, 60, 35], [10, 10, 30, 30]])
    assert batch.labels[0].classes.tolist() == [1, 0]
    assert len(batch.labels[1].boxes) == 0


def test_yolo_boxes_are_those_of_the_picture_as_it_is_displayed(path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    files: dict[str, bytes | str] = {
        "images/a.jpg": picture(100, 50, kind="JPEG", exif=turned),
        "labels/a.txt": "0 0.5 0.5 1 1",
    }
    (batch,) = opened(zipped(path, files), "yolo", {"classes": ["cat"]}).batches(1)
    np.testing.assert_allclose(batch.labels[0].boxes, [[0, 0, 50, 100]])


@pytest.mark.parametrize(
    "line", ["2 0.5 0.5 0.1 0.1", "0 0.5 0.5", "x 1 1 1 1", "0 nan 0 0 0", "0 1e9 0 0 0", "-1 0 0 1 1"]
)
def test_wrong_yolo_labels_are_told(path: Path, line: str) -> None:
    zipped(path, {"images/a.png": picture(), "labels/a.txt": line, "data.yaml": "names: [cat, dog]"})
    with pytest.raises(InvalidDataset, match=r"labels/a\.txt"):
        list(opened(path, "yolo").batches(1))


@pytest.mark.parametrize(
    "text",
    [
        *("names: {1: cat}", "nothing: here", "- a", "names: [[a]]", "!!python/object:os.x {}"),
        *("names: [2001-99-99]", f"names: [{'9' * 5000}]", f"names: [0x{'f' * 5000}]"),
    ],
    ids=lambda text: text[:20],
)
def test_wrong_names_of_yolo_classes_are_told(path: Path, text: str) -> None:
    zipped(path, {"images/a.png": picture(), "labels/a.txt": "0 0 0 1 1", "data.yaml": text})
    with pytest.raises(InvalidDataset, match=r"data\.yaml"):
        opened(path, "yolo")


def test_a_yolo_class_without_names_is_bounded(path: Path) -> None:
    for number, fits in (("2147483646", True), ("2147483648", False), ("1e30", False)):
        zipped(path, {"images/a.png": picture(), "labels/a.txt": f"{number} 0 0 1 1"})
        data = opened(path, "yolo")
        if fits:
            assert next(data.batches(1)).labels[0].classes.tolist() == [int(number)]
            continue
        with pytest.raises(InvalidDataset, match=r"labels/a\.txt"):
            list(data.batches(1))


def test_pictures_without_any_label_are_no_yolo_dataset(path: Path) -> None:
    zipped(path, {"cat/a.png": picture()})
    with pytest.raises(InvalidDataset, match=r"labels/a\.txt"):
        opened(path, "yolo")
