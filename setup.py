# SPDX-License-Identifier: MIT
"""Builds the Python package: libtreadle.so.0 beside the extension treadle._treadle.

The core is compiled from core/sources.txt, the list that the CMake build reads
too. The library carries its SONAME and the extension looks for it in its own
directory ($ORIGIN), so a process that has loaded libtreadle.so.0 already (for
the Lua binding, say) shares that one core. With TREADLE_LIBDIR in the
environment nothing is built: the extension is linked against the
libtreadle.so.0 in that directory, and finds it there.
"""

import itertools
import os
import platform
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
SONAME = "libtreadle.so.0"
CORE_FLAGS = [
    "-std=gnu11", "-O2", "-fPIC", "-fno-plt", "-fvisibility=hidden", "-fno-omit-frame-pointer", "-pthread",
]
EXTENSION_FLAGS = ["-std=gnu11", "-O2", "-fno-plt", "-fvisibility=hidden", "-Wno-missing-field-initializers"]


def core_sources():
    lines = (HERE / "core" / "sources.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def includes(cc, header, flags):
    """Can this header be included? A compiler that is missing in plain words."""
    try:
        probe = subprocess.run([*cc, *flags, "-E", "-x", "c", "-"], input=f"#include <{header}>\n", capture_output=True,
                               text=True)
    except OSError as error:
        raise SystemExit(f"treadle needs a C compiler, and cannot start {cc[0]} ({error.strerror}): "
                         "on Debian `apt-get install gcc libc6-dev`, or say which by CC=") from None
    return probe.returncode == 0


def libuv(cc):
    """The flags that compile and link with libuv; its absence in plain words."""
    try:
        out = subprocess.run(["pkg-config", "--cflags", "--libs", "libuv"], capture_output=True, text=True)
        flags = out.stdout.split() if out.returncode == 0 else ["-luv"]
    except FileNotFoundError:
        flags = ["-luv"]
    compile_flags = [f for f in flags if f.startswith("-I")]
    link_flags = [f for f in flags if f.startswith(("-L", "-luv"))]
    if not includes(cc, "stdio.h", []):
        raise SystemExit(f"treadle needs a C compiler, and {cc[0]} finds no <stdio.h>: on Debian `apt-get install libc6-dev`")
    if not includes(cc, "uv.h", compile_flags):
        raise SystemExit("treadle needs libuv 1.42 or later, with its header: on Debian `apt-get install libuv1-dev`")
    return compile_flags, link_flags


def newest(paths):
    return max((p.stat().st_mtime for p in paths), default=0.0)


class BuildWithCore(build_ext):
    """build_ext that builds the core's shared library first."""

    def build_extension(self, ext):
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        target.mkdir(parents=True, exist_ok=True)
        libdir = os.environ.get("TREADLE_LIBDIR")
        if libdir:
            libdir = str(Path(libdir).resolve())
            ext.extra_link_args = [f"{libdir}/{SONAME}", f"-Wl,-rpath,{libdir}"]
        else:
            library = self.build_core(target)
            ext.extra_link_args = [str(library), "-Wl,-rpath,$ORIGIN"]
        headers = [*HERE.glob("core/include/**/*.h"), *HERE.glob("bindings/python/src/*.h")]
        ext.depends = [str(h.relative_to(HERE)) for h in headers]
        super().build_extension(ext)

    def build_core(self, target):
        library = target / SONAME
        core = HERE / "core"
        inputs = [p for p in core.rglob("*") if p.suffix in {".c", ".h", ".S", ".txt", ".map"}]
        if library.exists() and library.stat().st_mtime > newest(inputs) and not self.force:
            return library
        # CC may be several words, as in "ccache gcc".
        cc = list(itertools.takewhile(lambda word: not word.startswith("-"), self.compiler.compiler_so))
        uv_compile, uv_link = libuv(cc)
        if not includes(cc, "Python.h", [f"-I{path}" for path in self.include_dirs]):
            raise SystemExit("treadle needs the headers of Python: on Debian `apt-get install python3-dev`")
        objects = []
        jobs = []
        for source in core_sources():
            obj = Path(self.build_temp).resolve() / "core" / (source.replace("/", "_") + ".o")
            obj.parent.mkdir(parents=True, exist_ok=True)
            flags = list(CORE_FLAGS)
            if source == "sched/switch.c" and platform.machine() == "x86_64":
                flags.append("-fcf-protection=branch")  # as in cmake/TreadleLibrary.cmake
            command = [
                *cc, *flags, *uv_compile, "-I", str(core / "include"), "-I", str(core),
                "-c", str(core / source), "-o", str(obj),
            ]
            jobs.append(command)
            objects.append(str(obj))
        print(f"building {SONAME} from {len(jobs)} sources", flush=True)
        running = []
        for command in jobs:
            running.append((command, subprocess.Popen(command)))
            if len(running) >= (os.cpu_count() or 1):
                self.finish(*running.pop(0))
        for command, process in running:
            self.finish(command, process)
        new = library.with_suffix(".new")
        link = [*cc, "-shared", "-pthread", f"-Wl,-soname,{SONAME}", "-o", str(new), *objects, *uv_link, "-ldl"]
        self.finish(link, subprocess.Popen(link))
        new.rename(library)  # never a half-written library under its name
        return library

    @staticmethod
    def finish(command, process):
        if process.wait() != 0:
            raise SystemExit("failed: " + " ".join(command))

    def copy_extensions_to_source(self):
        """In place, which an editable install is too: the library goes beside the extension."""
        super().copy_extensions_to_source()
        if os.environ.get("TREADLE_LIBDIR"):
            return
        for ext in self.extensions:
            there = Path(self.get_finalized_command("build_py").get_package_dir(ext.name.rpartition(".")[0]))
            new = there / f"{SONAME}.new"
            shutil.copy2(Path(self.build_lib, *ext.name.split(".")[:-1], SONAME), new)
            new.rename(there / SONAME)

    def get_outputs(self):
        outputs = super().get_outputs()
        if not os.environ.get("TREADLE_LIBDIR"):
            for ext in self.extensions:
                outputs.append(str(Path(self.get_ext_fullpath(ext.name)).parent / SONAME))
        return outputs


setup(
    license="MIT",
    cmdclass={"build_ext": BuildWithCore},
    ext_modules=[
        Extension(
            "treadle._treadle",
            sources=sorted(
                str(p.relative_to(HERE)) for p in (HERE / "bindings/python/src").glob("*.c")
            ),
            include_dirs=["core/include"],
            extra_compile_args=EXTENSION_FLAGS,
        )
    ],
)
