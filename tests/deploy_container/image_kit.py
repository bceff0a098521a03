"""A base image made of this machine's own Python, and buildah over folders of its own: an image is built without any registry.

What is proven is the Containerfile; that it also fits the base that it names is not, for that one cannot be fetched everywhere.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
CONTAINERFILE = PROJECT / "deploy/container/Containerfile"
LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "config-*", "__pycache__"
)

# What every base of this kind has, and packages count on.
USUAL = ["libgcc_s.so.1", "libstdc++.so.6", "librt.so.1", "libpthread.so.0", "libdl.so.2", "libutil.so.1", "libresolv.so.2"]


class Buildah:
    """buildah with its images and containers in `folder`, without a daemon and without other isolation than a changed root."""

    def __init__(self, program: str, folder: Path) -> None:
        # Its locks and sockets have long names, and the folder of a test has one already.
        self.start = [program, "--storage-driver", "vfs", "--root", str(folder / "r"), "--runroot", str(folder / "s")]
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')  # nothing is fetched
        self._policy = folder / "policy.json"
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "BUILDAH_ISOLATION": "chroot"}

    def __call__(self, *args: str, seconds: float = 300) -> str:
        done = subprocess.run(
            [*self.start, *args], env=self.environ, capture_output=True, text=True, timeout=seconds, check=False, cwd=PROJECT
        )
        assert done.returncode == 0, f"buildah {' '.join(args[:3])}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def base(self, name: str, root: Path) -> None:
        """An image of a folder."""
        container = self("from", "scratch")
        self("add", container, str(root), "/")
        self("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
        self("commit", "--rm", "--quiet", container, name)

    def build(self, base: str, name: str, wheels: Path, **arguments: str) -> None:
        """The Containerfile, with packages from the folder `wheels` alone."""
        pip = wheels.parent / "pip.conf"
        pip.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        given = [f"--build-arg={key}={value}" for key, value in {"PYTHON_IMAGE": base, **arguments}.items()]
        self(
            *("build", "--pull-never", "--format=docker", f"--file={CONTAINERFILE}", f"--tag={name}", *given),
            *(
                f"--signature-policy={self._policy}",
                f"--volume={wheels}:/wheels:ro",
                f"--volume={pip}:/etc/pip.conf:ro",
                str(PROJECT),
            ),
        )

    def config(self, name: str) -> dict[str, Any]:
        """What the image says of itself, in Docker's words."""
        found: dict[str, Any] = json.loads(self("inspect", "--type=image", name))["Docker"]["config"]
        return found


def python_root(root: Path) -> None:
    """This Python without its packages, the libraries that it needs, and no shell."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    stdlib = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    shutil.copytree(stdlib, root / "usr/local/lib" / version, ignore=LEFT_OUT, symlinks=True)
    (root / "usr/local/lib" / version / "site-packages").mkdir()
    binary = root / "usr/local/bin" / version
    binary.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), binary)
    wheels = sysconfig.get_config_var("WHEEL_PKG_DIR")  # Debian keeps those of ensurepip outside of it
    if wheels:
        shutil.copytree(wheels, root / wheels.lstrip("/"))
    for link in ("python", "python3"):
        (binary.parent / link).symlink_to(version)
    modules = [Path(sys.executable).resolve(), *stdlib.glob("lib-dynload/*.so")]
    libraries = {path for module in modules for path in _needed(module)}
    beside = next(path.parent for path in libraries if path.name == "libc.so.6")
    libraries |= {beside / name for name in USUAL if (beside / name).exists()}
    for path in libraries:
        target = (
            root / ("usr/lib" if str(path).startswith(sys.base_prefix) else str(path.parent.resolve()).lstrip("/")) / path.name
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for merged in ("lib", "lib64", "bin"):
        (root / "usr" / merged).mkdir(parents=True, exist_ok=True)
        (root / merged).symlink_to(f"usr/{merged}")
    for folder in ("tmp", "etc", "var/lib", "run", "proc", "dev", "sys"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0::/:/none\n")
    (root / "etc/group").write_text("root:x:0:\n")


def _needed(module: Path) -> list[Path]:
    text = subprocess.run(["ldd", str(module)], capture_output=True, text=True, check=True).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", text)]
