"""Looks into compiled csrc objects: `python check_objects.py OBJECT...` prints every breach and exits 1 on any.

- isa_avx512*.o use zmm registers, isa_avx512_vnni.o VNNI, isa_avx512_bf16.o BF16, isa_amx.o tiles, and isa_avx2.o ymm and FMA but no zmm; no other
  object uses any.
- An isa_*.o exports its tables alone, or nothing where it is for other machines; every other exported name starts with lstmrt_.
- Nothing refers to a function that prints, exits or aborts.
"""

import re
import subprocess
import sys
from pathlib import Path

FORBIDDEN = re.compile(
    r"_*(v?[fs]?n?printf(_chk)?|puts|fputs|putchar|fputc|fwrite|perror|exit|_exit|abort|assert_fail|raise"
    r"|stdout|stderr|stdin)"
)
TABLES = {"isa_avx512_vnni": {"int8", "bytes"}, "isa_avx512_bf16": {"bf16"}, "isa_amx": {"int8"},
          "isa_neon_dot": {"int8"}}  # the others have one of each kind
ALL_TABLES = {"kernels", "int8", "bf16", "bytes"}
# What its code must use, and what it must not.
REGISTERS = {
    "isa_avx512": (r"%zmm", r"vpdp|vdpbf16|%tmm"),
    "isa_avx512_vnni": (r"vpdpbusd .*%zmm", r"vdpbf16|%tmm"),
    "isa_avx512_bf16": (r"vdpbf16ps .*%zmm", r"vpdp|%tmm"),
    "isa_amx": (r"tdpbsud .*%tmm", r"vpdp|vdpbf16"),
    "isa_avx2": (r"vfmadd\w+ .*%ymm", r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]"),
}
BASELINE = (None, r"%[tyz]mm")


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def symbols(path: Path, kind: str) -> set[str]:
    return {line.split()[-1] for line in output_of("nm", kind, str(path)).splitlines() if line.split()}


def code_faults(path: Path) -> list[str]:
    needed, barred = REGISTERS.get(path.stem, BASELINE)
    code = output_of("objdump", "--disassemble", "--no-show-raw-insn", str(path))
    faults = []
    if needed and not re.search(needed, code):
        faults.append(f"no instruction matches {needed}")
    if barred and (found := re.search(barred, code)):
        faults.append(f"uses {found.group()}")
    return faults


def symbol_faults(path: Path, is_x86: bool) -> list[str]:
    exported = symbols(path, "--extern-only") - symbols(path, "--undefined-only")
    faults = [f"exports {name}" for name in sorted(exported) if not name.startswith("lstmrt_")]
    isa = path.stem.removeprefix("isa_")
    tables = {f"lstmrt_{kind}_{isa}" for kind in TABLES.get(path.stem, ALL_TABLES)}
    if isa != "scalar" and isa.startswith("neon") == is_x86:
        tables = set()
    if isa != path.stem and exported != tables:
        faults.append(f"exports {sorted(exported)} rather than {sorted(tables)} alone")
    undefined = symbols(path, "--undefined-only")
    return faults + [f"refers to {name}" for name in sorted(undefined) if FORBIDDEN.fullmatch(name)]


def main(paths: list[Path]) -> int:
    is_x86 = "x86-64" in output_of("objdump", "--file-headers", *map(str, paths))
    faults = {path: symbol_faults(path, is_x86) for path in paths}
    if missing := REGISTERS.keys() - {path.stem for path in paths}:
        sys.exit(f"not among the objects: {', '.join(sorted(missing))}")
    if is_x86:
        for path in paths:
            faults[path] += code_faults(path)
    for path, found in faults.items():
        for fault in found:
            print(f"{path}: {fault}")
    broken = sum(map(bool, faults.values()))
    print(f"{len(paths)} objects looked into, {broken} with faults")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
