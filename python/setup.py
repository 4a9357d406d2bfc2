"""Puts libcuddle.so, and the libraries that it needs, into the wheel. The rest is in pyproject.toml."""
import os
import shutil
import subprocess

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NEEDED = ("libonig.so", "libutf8proc.so", "libzstd.so")


def loaded_from(library):
    """Name and file of each shared library that this one needs."""
    lines = subprocess.run(["ldd", library], check=True, capture_output=True, text=True).stdout.splitlines()
    return [(a.strip(), b.split()[0]) for a, _, b in (line.partition("=>") for line in lines) if b]


class Build(build_py):
    def run(self):
        super().run()
        library = os.environ.get("CUDDLE_LIBRARY") or os.path.join(TOP, "build", "libcuddle.so")
        if "CUDDLE_LIBRARY" not in os.environ:
            subprocess.run(["make", "-C", TOP, "build/libcuddle.so"], check=True)
        target = os.path.join(self.build_lib, "cuddle")
        shutil.copy(library, os.path.join(target, "libcuddle.so"))
        if shutil.which("strip"):
            subprocess.run(["strip", os.path.join(target, "libcuddle.so")], check=True)
        for name, path in loaded_from(library):
            if name.startswith(NEEDED):
                shutil.copy(path, os.path.join(target, name))


class Native(Distribution):
    def has_ext_modules(self):
        return True


class Wheel(bdist_wheel):
    """For any Python 3, for this kind of machine."""

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(distclass=Native, cmdclass={"build_py": Build, "bdist_wheel": Wheel})
