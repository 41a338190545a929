"""Pictures become what the model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qcompiler.data import (
    DataOptions,
    InputSpec,
    open_data,
)
from qcompiler.data.feeds import Array
from qcompiler.errors import CalibrationError, OptionError
from tests.qcompiler.data.specs import F32, PICTURE


def test_pictures_are_normalized_in_the_models_layout(tmp_path: Path) -> None:
    Image.new("RGB", (6, 8), (255, 0, 51)).save(tmp_path / "a.png")
    feed = next(iter(open_data(tmp_path, PICTURE, DataOptions(image_mean=(0.5,), image_std=(0.5,)))))
    assert feed["image"].shape == (1, 3, 8, 6)
    # two float32 roundings of values near 1
    np.testing.assert_allclose(feed["image"][0, :, 0, 0], [1, -1, -0.6], atol=1e-6)


def picture(folder: Path, spec: InputSpec, options: DataOptions) -> Array:
    """The only feed of a folder."""
    (feed,) = open_data(folder, (spec,), options)
    return feed[spec.name]


@pytest.fixture
def half_red(tmp_path: Path) -> Path:
    """8 high, 6 wide: pure red above, black below."""
    pixels = np.zeros((8, 6, 3), np.uint8)
    pixels[:4, :, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path


def test_nhwc_holds_the_same_pixels_as_nchw(half_red: Path) -> None:
    first = picture(half_red, PICTURE[0], DataOptions())
    last = picture(half_red, InputSpec("image", F32, ("N", 8, 6, 3)), DataOptions())
    np.testing.assert_array_equal(last, first.transpose(0, 2, 3, 1))


def test_bgr_turns_the_channels_round(half_red: Path) -> None:
    rgb = picture(half_red, PICTURE[0], DataOptions())
    bgr = picture(half_red, PICTURE[0], DataOptions(image_order="BGR"))
    np.testing.assert_array_equal(bgr, rgb[:, ::-1])
    assert rgb[0, :, 0, 0].tolist() == [1, 0, 0]


def test_a_uint8_input_gets_the_pixels_as_they_are(half_red: Path) -> None:
    raw = picture(half_red, InputSpec("image", np.dtype(np.uint8), ("N", 8, 6, 3)), DataOptions())
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(raw[0], np.asarray(Image.open(half_red / "a.png")))


def test_one_channel_is_gray(half_red: Path) -> None:
    gray = picture(half_red, InputSpec("image", F32, ("N", 1, 8, 6)), DataOptions(image_scale=1.0))
    # ITU-R 601: 0.299 of red, rounded to a whole number by the decoder
    assert gray[0, 0, [0, 7], 0].tolist() == [76, 0]


def test_resize_then_crop_keeps_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((16, 12, 3), np.uint8)
    pixels[4:12, 3:9] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = picture(tmp_path, PICTURE[0], DataOptions())
    centre = picture(tmp_path, PICTURE[0], DataOptions(image_resize=2.0))
    assert whole.min() == 0
    assert centre.min() == 1  # twice the size, then the middle 8 x 6: the white part alone


def test_a_free_size_needs_the_option(half_red: Path) -> None:
    spec = InputSpec("image", F32, ("N", 3, "H", "W"))
    with pytest.raises(CalibrationError, match="--image-size"):
        picture(half_red, spec, DataOptions())
    assert picture(half_red, spec, DataOptions(image_size=(4, 5))).shape == (1, 3, 4, 5)


@pytest.mark.parametrize(
    ("spec", "options", "flag"),
    [
        (
            InputSpec("image", np.dtype(np.uint8), ("N", 8, 6, 3)),
            DataOptions(image_mean=(0.5,)),
            "--image-mean",
        ),
        (InputSpec("image", F32, ("N", 1, 8, 6)), DataOptions(image_order="BGR"), "--image-order"),
    ],
)
def test_options_that_these_pixels_do_not_follow_are_refused(
    half_red: Path, spec: InputSpec, options: DataOptions, flag: str
) -> None:
    with pytest.raises(OptionError, match=flag):
        picture(half_red, spec, options)
