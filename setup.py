"""The extension; everything else about the package stands in pyproject.toml."""

import os
import sys
import sysconfig
from glob import glob

import numpy
from setuptools import Extension, setup

# One wheel for CPython 3.11 and later: the limited API has buffers from there on, and free-threaded builds lack it.
limited = (
    sys.implementation.name == "cpython"
    and sys.version_info >= (3, 11)
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)

optimisation = ["-O0", "-g3"] if os.environ.get("LSTMRT_DEBUG") else ["-O3", "-g0"]

core = Extension(
    "lstmrt._core",
    ["lstmrt/_core.pyx", *sorted(glob("csrc/*.c"))],
    include_dirs=["csrc", numpy.get_include()],
    depends=["lstmrt/_clib.pxd", "lstmrt/_program.pxi", *sorted(glob("csrc/*.h")), *sorted(glob("csrc/*.def"))],
    # No instruction set here: each isa_*.c opens its own region. No contraction: it would give every set other bits.
    extra_compile_args=[*optimisation, "-std=c11", "-ffp-contract=off", "-fvisibility=hidden"],
    libraries=["m"],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")] + [("Py_LIMITED_API", "0x030B0000")] * limited,
    py_limited_api=limited,
)

setup(ext_modules=[core], options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited else {})
