"""The image that `make test-image` builds. Without it these tests are skipped: no other test needs a container engine."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.podman import Image


@pytest.fixture(scope="session")
def image() -> Image:
    name = os.environ.get("IMAGE_UNDER_TEST")
    if not name:
        pytest.skip("runs a container: `make test-image` builds the image and runs this")
    return Image(name)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that users of containers can reach; pytest's own are closed to all but the caller."""
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
