# Named targets for work on the C core and for the whole. `make CC=clang c-test` and the like choose a compiler.

PYTHON ?= python
PYTEST ?= pytest # not `python -m pytest`, which would find the source folder before the installed package
BUILD = build/c
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
# As setup.py has them: no instruction set, no contraction of a x + b.
CFLAGS = -std=c11 -O3 -g -ffp-contract=off -fvisibility=hidden $(WARNINGS)
SANITIZE = -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all

SOURCES = $(sort $(wildcard csrc/*.c))
HEADERS = $(wildcard csrc/*.h csrc/*.def tests/c/*.h)
TESTS = $(basename $(notdir $(sort $(wildcard tests/c/test_*.c))))

# A variant is a compiler and flags with a directory of their own: build/c/NAME.
NAME = $(notdir $(CC))
OUT = $(BUILD)/$(NAME)
OBJECTS = $(SOURCES:csrc/%.c=$(OUT)/%.o)
PROGRAMS = $(TESTS:%=$(OUT)/%)
RUN = # what runs the programs, where this machine does not

.PHONY: build test test-isa debug c-test asan ubsan tsan emulated check-objects exhaustive cross bench onnx-suite onnx-page keras-page fuzz-onnx fuzz-keras clean

build:
	$(PYTHON) -m pip install --editable .

test:
	$(PYTEST)

# The whole test suite once for each instruction set that this machine has.
test-isa:
	for isa in $$(cd tests && $(PYTHON) -c "from lstmrt._core import isas; print(*(n for n, ok in isas() if ok))"); do \
	    LSTMRT_ISA=$$isa $(PYTEST) || exit 1; done

# Damaged Keras files, for an hour.
fuzz-keras:
	$(PYTHON) tests/fuzz_keras.py 3600

# Without optimisation and with symbols, for a debugger.
debug:
	LSTMRT_DEBUG=1 $(PYTHON) -m pip install --editable .

$(OUT)/%.o: csrc/%.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Icsrc -c $< -o $@

$(OUT)/%: tests/c/%.c $(OBJECTS)
	$(CC) $(CFLAGS) -O1 -Icsrc $(LDFLAGS) $< $(OBJECTS) -lm -lpthread -o $@

# The C tests, without Python.
c-test: $(PROGRAMS)
	@failed=0; for program in $(PROGRAMS); do $(RUN) $$program || failed=1; done; exit $$failed

asan:
	$(MAKE) c-test NAME=$(NAME)-asan CFLAGS="$(CFLAGS) $(SANITIZE) -fsanitize=address"

ubsan:
	$(MAKE) c-test NAME=$(NAME)-ubsan CFLAGS="$(CFLAGS) $(SANITIZE) -fsanitize=undefined"

tsan:
	TSAN_OPTIONS=die_after_fork=0 $(MAKE) c-test NAME=$(NAME)-tsan CFLAGS="$(CFLAGS) $(SANITIZE) -fsanitize=thread" TESTS="test_threads test_pool test_screen"

# The core with AMX, on a model of its tiles where this machine has none.
emulated:
	$(MAKE) c-test NAME=$(NAME)-emulated LDFLAGS="-Wl,--wrap=lstmrt_cpu_has_amx tests/c/emulated.c" TESTS="test_reduced test_screen test_threads test_allocation"

check-objects: $(OBJECTS)
	$(PYTHON) tests/c/check_objects.py $(OBJECTS)

# tanh and sigmoid for all 2^32 floats, on every instruction set: some ten minutes on two cores.
exhaustive: $(OUT)/test_activations
	$(OUT)/test_activations exhaustive

# Another machine: whatever CROSS names, under user-mode emulation.
CROSS ?= aarch64-linux-gnu-gcc
EMULATOR ?= qemu-aarch64
cross:
	@if command -v $(CROSS) >/dev/null && command -v $(EMULATOR) >/dev/null; \
	then EMULATED=1 $(MAKE) c-test CC=$(CROSS) RUN=$(EMULATOR) LDFLAGS=-static; \
	else echo "cross: skipped, $(CROSS) or $(EMULATOR) is not installed"; fi

bench:
	$(PYTHON) bench

# docs/ONNX.md, from what the tests measure.
onnx-page:
	cd tests && $(PYTHON) onnx_page.py

# The tables of docs/KERAS.md, from what the tests measure.
keras-page:
	cd tests && $(PYTHON) keras_page.py

# Damaged and rewritten ONNX files for as many tries as FUZZ says.
FUZZ ?= 20000
fuzz-onnx:
	LSTMRT_FUZZ=$(FUZZ) $(PYTEST) -q tests/test_onnx_hostile.py

# How many node tests of the onnx package's own suite pass, and what runs them; `make onnx-suite ARGS=-v` says why not.
onnx-suite:
	cd tests && $(PYTHON) onnx_suite.py $(ARGS)

clean:
	rm -rf build
