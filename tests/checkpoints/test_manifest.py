"""Every byte that changes is found, and what it belongs to is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_candle.checkpoints import manifest
from keras_candle.checkpoints.writing import WEIGHTS
from keras_candle.errors import CheckpointError

FILES = {WEIGHTS, "state.json", "state.json.npz", "ranks.zip"}


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_whole_checkpoint_has_no_damage(whole):
    assert manifest.find_damage(whole) == []
    assert {file.name for file in manifest.read(whole).files} == FILES


def test_one_flipped_bit_is_found_wherever_it_is(whole):
    path, tensors = whole / WEIGHTS, manifest.read(whole).tensors
    named = 0
    for bit in np.random.default_rng(0).integers(8 * path.stat().st_size, size=200).tolist():
        flip(path, bit)
        (line,) = manifest.find_damage(whole)
        hit = [t for t in tensors if 0 <= bit // 8 - t.offset_bytes < t.size_bytes]
        assert (f"tensor {hit[0]} differs" if hit else "outside of its tensors it differs") in line
        named += len(hit)
        flip(path, bit)
    assert named > 5
    assert manifest.find_damage(whole) == []


def test_a_flipped_bit_in_the_manifest_is_found(whole):
    path = whole / manifest.NAME
    for bit in range(0, 8 * path.stat().st_size, 997):
        flip(path, bit)
        (line,) = manifest.find_damage(whole)
        assert "is damaged" in line or "has format" in line
        flip(path, bit)


@pytest.mark.parametrize("name", sorted(FILES - {WEIGHTS}))
def test_one_flipped_bit_is_found_in_any_file(whole, name):
    path = whole / name
    for bit in range(0, 8 * path.stat().st_size, 97):
        flip(path, bit)
        assert manifest.find_damage(whole) == [f"{path}: it differs from what was written"]
        flip(path, bit)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_short_or_gone_is_named(whole, name):
    path = whole / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    assert manifest.find_damage(whole) == [f"{path} has {size - 1} bytes, expected {size}"]
    path.unlink()
    assert manifest.find_damage(whole) == [f"{path} is missing"]


def test_a_checkpoint_without_manifest_was_never_finished(whole):
    (whole / manifest.NAME).unlink()
    assert "was never finished" in manifest.find_damage(whole)[0]


def test_a_manifest_of_another_version_is_no_damage_of_the_disk(whole):
    path = whole / manifest.NAME
    content = {**json.loads(path.read_bytes()), "format": 9}
    content.pop("digest")
    told = manifest.digest(json.dumps(content, sort_keys=True).encode())
    path.write_text(json.dumps({"digest": told, **content}))
    with pytest.raises(CheckpointError, match="format 9, expected 1"):
        manifest.read(whole)
