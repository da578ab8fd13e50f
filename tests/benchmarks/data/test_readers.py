"""Readers of the second unseen suite: what stands in a tiny file of each kind comes out of it."""

from __future__ import annotations

import io
import json
from itertools import product
from typing import Any

import numpy as np

from benchmarks.data.readers import READERS, WINDOW, WORDS

FLF = "flf2a$ 4 3 5 0 1\na comment\n"
RNG = np.random.default_rng(0)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def figlet(letters: dict[str, list[str]], header: str = FLF) -> bytes:
    """Write a font whose other characters are blank; lines end with @, the last of a character with @@."""
    rows = []
    for code in range(32, 127):
        glyph = letters.get(chr(code), ["$"] * 4)
        rows += [f"{row}@" for row in glyph[:-1]] + [f"{glyph[-1]}@@"]
    return (header + "\n".join(rows)).encode()


def test_an_emoji_is_cut_out_of_its_sheet_on_white() -> None:
    from PIL import Image

    sheet = np.zeros((66, 132, 4), np.uint8)  # two cells, see-through
    sheet[1:65, 67:131] = (255, 0, 0, 255)
    sheet[1, 67] = 0
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="PNG")
    entry = {"has_img_google": True, "sheet_x": 1, "sheet_y": 0, "category": "Food & Drink"}
    entries = [entry, {**entry, "category": "Component"}, {**entry, "has_img_google": False}]
    images, labels = READERS["emoji"]([json.dumps(entries).encode(), file.getvalue()], ("animals", "food"))
    assert (images.shape, labels.tolist()) == ((1, 3, 64, 64), [1])
    assert images[0, :, 0, 0].tolist() == [255, 255, 255]
    assert images[0, :, 63, 63].tolist() == [255, 0, 0]


def test_a_letter_is_cut_to_what_is_not_blank_and_averaged() -> None:
    font = figlet({"A": ["$$$$", "$$ /", "$$/ ", "$$$$"], "B": ["####", "#  #", "#  #", "####"]})
    images, labels = READERS["glyphs"]([font], ("A", "B"))
    assert (images.shape, labels.tolist()) == ((2, 1, 16, 16), [0, 1])
    assert images[0, 0, ::8, ::8].tolist() == [[0, 1], [1, 0]]
    assert images[1, 0].mean() == 0.75
    assert len(READERS["glyphs"]([font, font], ("A", "B"))[1]) == 2  # a second time they are the same


def test_a_font_of_three_rows_is_left_out() -> None:
    low = figlet({"A": ["#"] * 4}, header=FLF.replace(" 4 3", " 3 3"))
    high = figlet({"A": ["#", "#", "#", "$"]})
    assert READERS["glyphs"]([low, high], ("A",))[1].tolist() == [0]


def test_a_recording_is_read_from_its_first_to_its_last_frame() -> None:
    lengths = np.array([10, 19])
    frames = np.arange(29 * 2, dtype=np.float32).reshape(29, 2)
    inputs, labels = READERS["spoken"]([npz(X=frames, y=np.array([3, 1]), lengths=lengths)], tuple("0123"))
    assert (inputs.shape, labels.tolist()) == ((2, 20), [3, 1])
    assert inputs[0].tolist() == frames[:10].ravel().tolist()
    assert inputs[1].tolist() == frames[10::2].ravel().tolist()


def test_a_gene_is_the_shares_of_its_words() -> None:
    bases = np.array(list("ACGTACG" + "TTTTNAAA"))
    inputs, labels = READERS["genes"]([npz(X=bases, y=np.array([1, 0]), lengths=np.array([7, 8]))], ("a", "b"))
    words = {"".join(word): i for i, word in enumerate(product("ACGT", repeat=3))}
    assert inputs.shape == (2, 64)
    assert np.allclose(inputs.sum(axis=1), 1)
    assert np.allclose(inputs[0][[words["ACG"], words["CGT"], words["GTA"], words["TAC"]]], [0.4, 0.2, 0.2, 0.2])
    assert np.allclose(inputs[1][[words["TTT"], words["AAA"]]], [2 / 3, 1 / 3])  # none with an N in it
    assert labels.tolist() == [1, 0]


def test_pixels_of_named_classes_are_kept() -> None:
    scene = np.arange(12, dtype=np.uint16).reshape(2, 2, 3)
    inputs, labels = READERS["pines"]([npy(scene), npy(np.array([[0, 5], [2, 3]], np.uint8))], ("2", "5"))
    assert inputs.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert labels.tolist() == [1, 0]


def unicode(text: str) -> bytes:
    """Write the opcode of a text, as a pickle of Python 2 has it."""
    content = text.encode()
    return b"X" + len(content).to_bytes(4, "little") + content


def test_windows_of_exercises_are_mean_spread_and_amplitudes() -> None:
    time = np.arange(2 * WINDOW + 30)
    wave = np.stack([1 + np.sin(2 * np.pi * (sensor + 1) * time / WINDOW) for sensor in range(6)])  # a sensor a row
    short = RNG.normal(size=(6, WINDOW))
    parts = ["X", *(part.tobytes().decode("latin-1") for part in (wave, short)), "y_labels", "PEN", "ABD"]
    labels = np.array([1, 0], "<i8").tobytes().decode("latin-1")
    pickle = b"".join(map(unicode, [*parts, "y", labels, "subject"])) + b"."
    inputs, kept = READERS["exercises"]([b"\x93NUMPY a header\n" + pickle], ("PEN", "ABD"))
    assert (inputs.shape, kept.tolist()) == ((3, 96), [1, 1, 0])
    by_sensor = inputs[0].reshape(6, 16)
    assert np.allclose(by_sensor[:, 0], 1)
    assert np.allclose(by_sensor[:, 1], np.sqrt(0.5))
    assert by_sensor[:, 2:].argmax(axis=1).tolist() == list(range(6))
    assert np.allclose(inputs[2].reshape(6, 16)[:, 0], short.mean(axis=1))


def test_frames_of_vowels_are_rows() -> None:
    train, test = b"@dimensions 2\n@data\n1,2,3:4,5,6:9\n", b"@data\n7:8:1\n"
    inputs, labels = READERS["vowels"]([train, test], ("1", "9"))
    assert inputs.tolist() == [[1, 4], [2, 5], [3, 6], [7, 8]]
    assert labels.tolist() == [1, 1, 1, 0]


def test_a_text_is_its_words_of_length_one() -> None:
    lines = "Category\tText\nd\tstring\nclass\t\nsci.space\torbit orbit moon\nrec.autos\tthe moon\n"
    inputs, labels = READERS["newsgroups"]([lines.encode()], ("rec.autos", "sci.space"))
    assert inputs.shape == (2, WORDS)
    assert np.allclose((inputs**2).sum(axis=1), 1)
    assert np.allclose(np.sort(inputs[0])[-2:], np.array([1, 2]) / np.sqrt(5))
    assert (inputs[1] > 0).sum() == 1  # "the" is a stop word
    assert labels.tolist() == [1, 0]
