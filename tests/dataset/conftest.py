"""No test of data touches the network, and none sees what another has read."""

import zipfile
from io import BytesIO
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from cl_fisher.dataset import arrays, image_folder, omniglot, tiny_imagenet, vision
from cl_fisher.error import InputError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    for read in (arrays._load, image_folder._read, omniglot._load, tiny_imagenet._load, vision._load):
        read.cache_clear()


@pytest.fixture
def refused():
    """refused(call, *words): the call is refused in one line that has these words."""

    def check(call, *words):
        with pytest.raises(InputError) as error:
            call()
        message = str(error.value)
        assert "\n" not in message
        for word in words:
            assert str(word) in message
        return message

    return check


@pytest.fixture
def picture():
    """picture(array): the content of an image file."""

    def encode(array, kind="PNG"):
        stream = BytesIO()
        Image.fromarray(np.asarray(array)).save(stream, kind)
        return stream.getvalue()

    return encode


@pytest.fixture
def pack():
    """pack(path, {name: content}): a zip file."""

    def write(path, files):
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return write
