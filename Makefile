# make help lists the targets. Output goes to build/, other configurations to build/<config>/.
# Knobs: DEBUG=1 (no optimisation)  SAN=address,undefined  CUDA=0 (no GPU kernels)  V=1 (show the commands)
#        RELEASE=1 (code for every generation of GPUs; `make release` sets it)

CC ?= gcc
CLANG ?= clang
PREFIX ?= /usr/local
VERSION := $(shell sed -n 's/.*CUDDLE_VERSION "\(.*\)"/\1/p' include/cuddle.h)

comma := ,
CONFIG := $(if $(SAN),san-$(subst $(comma),-,$(SAN)),)$(if $(DEBUG),debug,)$(if $(RELEASE),release,)
B := build$(if $(strip $(CONFIG)),/$(subst $(comma),-,$(strip $(CONFIG))))
Q := $(if $(V),,@)

OPT := $(if $(DEBUG),-O0,$(if $(SAN),-O1,-O3))
CFLAGS ?= -g
# gcc takes results behind CDL_TRY for uninitialised; clang's build checks them
WARN := -Wall -Wextra -Wshadow -Wno-maybe-uninitialized
ALL_CFLAGS = -std=gnu11 $(OPT) -ffp-contract=off $(CFLAGS) $(WARN) -fPIC -fvisibility=hidden -Iinclude -Iruntime -MMD -MP \
    $(if $(SAN),-fsanitize=$(call san,$<) -fno-omit-frame-pointer $(call san_calls,$<))
# The products are so much inlined code that gcc needs minutes to instrument it: less of it, by calls.
san = $(if $(findstring cpu/linear_,$(1)),$(subst $(comma)undefined,,$(SAN)),$(SAN))
san_calls = $(if $(and $(findstring cpu/linear_,$(1)),$(findstring address,$(SAN))),--param asan-instrumentation-with-call-threshold=0)
LIBS := -lonig -lutf8proc -lzstd -lm -lpthread
ALL_LDFLAGS = $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN))

AVX2 := -mavx2 -mfma -mf16c -mbmi2
AVX512 := $(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi -mavx512bf16
AMX := $(AVX512) -mamx-tile -mamx-int8 -mamx-bf16
isa = $(if $(findstring _avx2.c,$(1)),$(AVX2))$(if $(findstring _avx512.c,$(1)),$(AVX512))$(if $(findstring _amx.c,$(1)),$(AMX))

LIB_SRC := $(sort $(wildcard runtime/*/*.c runtime/*/*/*.c))
CLI_SRC := $(sort $(wildcard tools/*.c))
TEST_SRC := $(sort $(wildcard tests/unit/*.c tests/kernel/*.c tests/model/*.c))
BENCH_SRC := $(sort $(wildcard bench/*.c))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/*.c))

# CUDA's kernels: PTX for any GPU from sm_80 on, PTX for any from sm_90 on (whose launches may begin early), PTX of wgmma
# for 9.0 alone, and code of sm_80 (runs on 86 and 89 too); of the later generations in a release, or where this machine has such a GPU. They are
# embedded in the library where there is an nvcc: the toolkit's, or that of tools/setup.sh cuda.
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc .cuda/bin/nvcc))
CUDA ?= $(if $(NVCC),1,0)
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
PTXAS = $(dir $(realpath $(NVCC)))ptxas
CUDA_ARCHS := 80 $(filter $(if $(RELEASE),%,$(subst .,,$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null))),90 100 120)
CUDA_WGMMA := $(sort $(wildcard cuda/*/wgmma_*.cu))
CUDA_SRC := $(filter-out $(CUDA_WGMMA),$(sort $(wildcard cuda/*.cu cuda/*/*.cu)))
CUDA_OUT := $(if $(NVCC),$(foreach f,$(CUDA_SRC),build/cuda/$(basename $(notdir $(f)))))
CUDA_90A := $(if $(NVCC),$(foreach f,$(CUDA_WGMMA),build/cuda/$(basename $(notdir $(f)))))
TEST_SRC += $(if $(CUDA_OUT),$(sort $(wildcard tests/cuda/*.c)))
CUDA_CUBINS = $(foreach a,$(CUDA_ARCHS),$(CUDA_OUT:=.sm_$(a).cubin) $(if $(filter 90,$(a)),$(CUDA_90A:=.sm_90a.cubin)))
CUDA_IMAGES := $(if $(filter-out 0,$(CUDA)),$(CUDA_OUT:=.ptx) $(CUDA_OUT:=.90.ptx) $(CUDA_90A:=.ptx) $(CUDA_CUBINS))

LIB_OBJ := $(LIB_SRC:%.c=$(B)/obj/%.o) $(B)/obj/cuda/images.o
CLI_OBJ := $(CLI_SRC:%.c=$(B)/obj/%.o)
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)
BENCH_BIN := $(BENCH_SRC:%.c=$(B)/%)

.PHONY: FORCE nvcc all emulator cuda cuda-gate demo models deps test-deps test test-build test-gpu fuzz fuzz-build bench bench-peers bench-tokenizers diff-tokenizers style size release install clean help
.SECONDARY:

all: $(B)/cuddle $(B)/libcuddle.so ## build build/cuddle and the library

cuda: $(CUDA_OUT:=.90.ptx) $(CUDA_90A:=.ptx) $(CUDA_CUBINS) ## the CUDA kernels: build/cuda/*.ptx, *.cubin, *.log
	$(Q)$(if $(CUDA_OUT),,echo "no nvcc here; tools/setup.sh cuda brings one into .cuda/" >&2; exit 1)

nvcc:
	@echo $(NVCC)

cuda-gate: cuda ## no kernel may spill registers
	$(Q)$(if $(CUDA_OUT),python3 tools/cuda_gate.py $(CUDA_CUBINS:.cubin=.log))

emulator: build/emulator/libcuda.so.1 build/emulator/libcublasLt.so.13 ## the virtual GPU: a libcuda.so.1 that runs PTX on the CPU

demo: deps ## install what is missing, build, get a model, answer a prompt
	$(Q)$(MAKE) --no-print-directory -j2 all
	$(Q)tools/models.sh smollm2
	$(Q)build/cuddle run models/SmolLM2-135M-Instruct-Q4_1.gguf "What is the capital of France?" --greedy

deps:
	$(Q)tools/setup.sh build

test-deps:
	$(Q)tools/setup.sh test

models: ## get the models of demo and tests into models/
	$(Q)tools/models.sh

test: test-deps ## install what is missing, build, run every test that needs no GPU
	$(Q)tests/run.sh

test-build: all $(TEST_BIN)

test-gpu: ## the tests of the GPU on a GPU, and what it measures; "no GPU" where there is none
	$(Q)tests/run_gpu.sh

fuzz: $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%) ## every fuzz target for 60 s (FUZZ_SECONDS=60)
	$(Q)tests/fuzz/run.sh $(or $(FUZZ_SECONDS),60)

fuzz-build: $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%)

bench: all $(BENCH_BIN) ## speed of the models in models/
	$(Q)$(B)/cuddle bench models/SmolLM2-135M-Instruct-Q4_1.gguf

bench-peers: all $(BENCH_BIN) ## speed beside llama.cpp in one run
	$(Q)bench/peers.sh

diff-tokenizers: all ## tokenizers against the package of pip: 20 MB of mixed text, about 50 tokenizers (DIR=folder of more)
	$(Q)tests/tools/diff_mixed.sh $(if $(DIR),--tokenizers $(DIR))

bench-tokenizers: all ## speed of the tokenizers beside those of pip in one run
	$(Q)bench/tokenizer_peers.sh

style: ## layers, sizes, names
	$(Q)python3 tools/style.py

size: release ## bytes of what a release installs
	$(Q)find build/release/root -type f -printf '%s %P\n' | sort -nr | awk '{ printf "%11d %s\n", $$1, $$2; n += $$1 } END { printf "%11d all\n", n }'

release: ## a build with code for every generation of GPUs, in build/release.tar.gz
	$(Q)rm -rf build/release/root
	$(Q)$(MAKE) --no-print-directory install RELEASE=1 DESTDIR=build/release/root PREFIX=/usr/local
	$(Q)tar -C build/release/root -czf build/release.tar.gz .

install: all ## into PREFIX (default /usr/local), without what debuggers read unless DEBUG=1
	$(Q)install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	$(Q)install $(if $(DEBUG),,-s) -m 755 $(B)/cuddle $(DESTDIR)$(PREFIX)/bin/
	$(Q)install $(if $(DEBUG),,-s) -m 755 $(B)/libcuddle.so $(DESTDIR)$(PREFIX)/lib/libcuddle.so.$(VERSION)
	$(Q)ln -sf libcuddle.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libcuddle.so.0
	$(Q)ln -sf libcuddle.so.0 $(DESTDIR)$(PREFIX)/lib/libcuddle.so
	$(Q)install -m 644 $(B)/libcuddle.a $(DESTDIR)$(PREFIX)/lib/
	$(Q)$(if $(DEBUG),,strip --strip-debug $(DESTDIR)$(PREFIX)/lib/libcuddle.a)
	$(Q)install -m 644 include/*.h $(DESTDIR)$(PREFIX)/include/
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' tools/cuddle.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/cuddle.pc

clean: ## remove build/
	$(Q)rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

$(B)/cuddle: $(CLI_OBJ) $(B)/libcuddle.a
	@echo "  link $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(CLI_OBJ) $(B)/libcuddle.a $(LIBS)

$(B)/libcuddle.a: $(LIB_OBJ)
	@echo "  archive $@"
	$(Q)rm -f $@ && $(AR) qcs $@ $(LIB_OBJ)

$(B)/libcuddle.so: $(LIB_OBJ) runtime/cuddle.map
	@echo "  link $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,libcuddle.so.0 -Wl,--version-script=runtime/cuddle.map -o $@ $(LIB_OBJ) $(LIBS)

$(B)/obj/tools/profile_page.o: tools/profile.html
$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  cc $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(call isa,$<) -c -o $@ $<

# All PTX and cubins become one table in the library (runtime/device/images.h), compressed: PTX to a tenth.
build/cuda/%.zst: build/cuda/%
	@echo "  zstd $<"
	$(Q)zstd -q -f -19 -o $@ $<

$(B)/cuda/images.S: $(CUDA_IMAGES:=.zst) tools/embed.sh FORCE
	@mkdir -p $(@D)
	$(Q)tools/embed.sh $(CUDA_IMAGES) > $@.new
	$(Q)if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(B)/obj/cuda/images.o: $(B)/cuda/images.S $(CUDA_IMAGES:=.zst)
	@mkdir -p $(@D)
	@echo "  embed $(words $(CUDA_IMAGES)) CUDA images"
	$(Q)$(CC) -c -o $@ $<

$(B)/tests/%: tests/%.c $(B)/libcuddle.a Makefile
	@mkdir -p $(@D)
	@echo "  test $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(call isa,$<) -Itests -Itools -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(B)/libcuddle.a -lcmocka $(LIBS)

$(B)/bench/%: bench/%.c $(B)/libcuddle.a Makefile
	@mkdir -p $(@D)
	@echo "  bench $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(call isa,$<) -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(B)/libcuddle.a $(LIBS)

# $(1): the source, $(2): what stands before .ptx, $(3): the capability
define cuda_rules
build/cuda/$(basename $(notdir $(1)))$(2).ptx: $(1)
	@mkdir -p $$(@D)
	@echo "  nvcc $$< $(3)"
	$$(Q)$$(NVCC) -Icuda -ptx -arch=compute_$(3) -O3 -MD -MF $$@.d -o $$@ $$<
endef
$(foreach f,$(if $(CUDA_OUT),$(CUDA_SRC)),$(eval $(call cuda_rules,$(f),,80)) $(eval $(call cuda_rules,$(f),.90,90)))
$(foreach f,$(if $(CUDA_90A),$(CUDA_WGMMA)),$(eval $(call cuda_rules,$(f),,90a)))

define cubin_rules
build/cuda/%.sm_$(1).cubin: build/cuda/%$(if $(filter 80 90a,$(1)),,.90).ptx
	@echo "  ptxas $$< sm_$(1)"
	$$(Q)$$(PTXAS) -arch=sm_$(1) -O3 -v -o $$@ $$< 2> build/cuda/$$*.sm_$(1).log || { cat build/cuda/$$*.sm_$(1).log; rm -f $$@; exit 1; }
endef
$(foreach a,$(CUDA_ARCHS) 90a,$(eval $(call cubin_rules,$(a))))

# The virtual GPU stands alone: it shares no object with the library, and its floats must round as written.
EMU_SRC := $(sort $(wildcard tools/emulator/*.c))
EMU_OBJ := $(EMU_SRC:%.c=build/obj/%.o)

$(EMU_OBJ): build/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  cc $<"
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O3 -fno-math-errno -ffp-contract=off -g $(WARN) -fPIC -fvisibility=hidden -MMD -MP \
	    -Wno-psabi -isystem $(CUDA_HOME)/include $(call isa,$<) -c -o $@ $<

build/emulator/libcuda.so.1: $(EMU_OBJ)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) -shared -Wl,-soname,libcuda.so.1 -o $@ $(EMU_OBJ) -lm -lpthread -ldl

build/emulator/libcublasLt.so.13: tools/emulator/cublaslt/cublaslt.c Makefile
	@mkdir -p $(@D)
	@echo "  cc $<"
	$(Q)$(CC) -std=gnu11 -O3 -ffp-contract=off -g $(WARN) -fPIC -fvisibility=hidden -isystem $(CUDA_HOME)/include \
	    -shared -Wl,-soname,libcublasLt.so.13 -o $@ $< -lm -ldl

build/emulator/kernels.ptx build/emulator/kernels_wgmma.ptx: build/emulator/%.ptx: tests/emulator/%.cu
	@mkdir -p $(@D)
	@echo "  nvcc $<"
	$(Q)$(NVCC) -ptx -arch=compute_$(if $(findstring wgmma,$<),90a,80) -o $@ $<

$(B)/tests/emulator/%: tests/emulator/%.c tests/emulator/vgpu.h build/emulator/libcuda.so.1 build/emulator/libcublasLt.so.13 build/emulator/kernels.ptx build/emulator/kernels_wgmma.ptx Makefile
	@mkdir -p $(@D)
	@echo "  test $<"
	$(Q)$(CC) $(ALL_CFLAGS) -isystem $(CUDA_HOME)/include -MF $@.d $(ALL_LDFLAGS) -o $@ $< -lcmocka -lm -ldl

# Fuzz targets are built by clang, library and all, with the sanitizers in.
FUZZ_CFLAGS := -std=gnu11 -O1 -ffp-contract=off -g -fPIC -Iinclude -Iruntime -MMD -MP
FUZZ_SAN := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
# no fuzz target runs a kernel, and clang takes minutes to instrument them
fuzz_san = $(if $(filter runtime/cpu/%,$(1)),,$(FUZZ_SAN))
FUZZ_LIB_OBJ := $(LIB_SRC:%.c=build/fuzz/obj/%.o) build/obj/cuda/images.o

build/fuzz/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  clang $<"
	$(Q)$(CLANG) $(FUZZ_CFLAGS) $(call fuzz_san,$<) $(call isa,$<) -c -o $@ $<

build/fuzz/libcuddle.a: $(FUZZ_LIB_OBJ)
	$(Q)rm -f $@ && $(AR) qcs $@ $(FUZZ_LIB_OBJ)

build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c build/fuzz/libcuddle.a
	@echo "  fuzz $<"
	$(Q)$(CLANG) $(FUZZ_CFLAGS) $(FUZZ_SAN) -MF $@.d -fsanitize=fuzzer,address,undefined -o $@ $< build/fuzz/libcuddle.a $(LIBS)

-include $(CUDA_OUT:=.ptx.d) $(CUDA_OUT:=.90.ptx.d) $(CUDA_90A:=.ptx.d) $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_BIN:=.d) $(BENCH_BIN:=.d) $(FUZZ_LIB_OBJ:.o=.d) $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%.d) $(EMU_OBJ:.o=.d)
