# The front door. `make` alone prints this help; every target says what it needs and installs or names it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

out    := images/out
lab    := cargo run --quiet --package weir-ci --bin lab --
# Frame pointers make every report's backtrace exact; the image has its own target folder because of the flag.
# Paths of this machine do not get into it: the same commit gives the same bytes in every folder.
flags  := --release --locked --features image --target-dir target/image \
          --config 'build.rustflags=["-Cforce-frame-pointers=yes", "--remap-path-prefix=$(CURDIR)=weir", \
          "--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo"]'
router := --package weir --bin weir
tests  := --package weir-preempt
# $(call step,NAME,COMMAND): the command, and then how long it took and how busy it was.
step    = @TIMEFORMAT='$(1): %0R s, %P %% of a CPU'; time $(2)

.PHONY: help
help: ## this list
	@echo 'Weir, a router that is its own operating system'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: image doctor ## boot the router between two hosts, check that it routes, stay on its console
	@$(lab) run

.PHONY: test
test: step-uhyve ## unit, property, doc and boot tests, the web page in Chromium, the router on uhyve

# One after the other; Xen, beside all but the first of them, is what preflight has more: beside the compiler its dom0 is too slow.
.PHONY: step-here step-boot step-page step-uhyve step-xen
step-here: image test-image doctor
	$(call step,tests on this machine,cargo test --workspace --quiet)
	@if [ "$$(id -u)" = 0 ]; then cargo test --package weir-netstack --test linux --quiet -- --ignored; \
	else echo 'skip  the routing table against Linux: needs root for a network namespace'; fi
	@python3 images/wireshark/test_weir.py
step-boot: step-here
	$(call step,boot tests,$(lab) boot-tests)
step-page: step-boot
	$(call step,web page,$(lab) web)
# An emulated machine that runs a hypervisor loses time under load: once more before it counts.
step-uhyve: step-page
	$(call step,uhyve,{ $(lab) smoke-uhyve || { echo 'smoke-uhyve failed once; once more'; $(lab) smoke-uhyve; }; })

step-xen: step-here
	$(call step,Xen,{ $(lab) smoke-xen --cycles 1 || { echo 'smoke-xen failed once; once more'; $(lab) smoke-xen --cycles 1; }; })

.PHONY: preflight
preflight: ## what CI runs: format, clippy, crate graph, ledger, all tests, size, instructions a packet
	cargo fmt --all --check
	@# What one needs another does not: the images have a target folder to themselves, installing takes the network.
	@$(MAKE) --no-print-directory --jobs 3 lint images doctor
	@$(MAKE) --no-print-directory --jobs 2 test step-xen
	@$(lab) size
	@$(lab) bench-vm --only weir --instructions --check

.PHONY: lint graph images
lint: graph
	$(call step,clippy,cargo clippy --workspace --all-targets --quiet -- -D warnings)
	@# As the tests are built, but without std: so what both need is looked at once.
	$(call step,clippy on the images,{ for what in '$(router)' '$(tests)'; do cargo clippy $$what --features image --quiet -- -D warnings; done; })
graph:
	$(call step,the lab and the crate graph,$(lab) graph)
images:
	$(call step,the images,$(MAKE) --no-print-directory image test-image)

.PHONY: image
image: ## build images/out/weir.elf (stripped) and weir.debug (with symbols)
	@cargo build --quiet $(router) $(flags)
	@mkdir -p $(out)
	@cp target/image/release/weir $(out)/weir.debug
	@objcopy --strip-all $(out)/weir.debug $(out)/weir.elf
	@echo "$(out)/weir.elf: $$(stat -c %s $(out)/weir.elf) bytes"

.PHONY: test-image
test-image: ## build the image that tests boot beside the router's, into images/out
	@cargo build --quiet $(tests) $(flags)
	@mkdir -p $(out)
	@objcopy --strip-all target/image/release/tests $(out)/tests.elf

.PHONY: disk
disk: image doctor ## make images/out/weir.raw and weir.qcow2: disks that boot by BIOS and by UEFI
	@$(lab) disk

.PHONY: release
release: disk ## make images/out/release: image, disks, SBOM, checksums
	@$(lab) release

.PHONY: reproducible
reproducible: doctor ## build this commit twice, in two folders, and compare
	@$(lab) reproducible

.PHONY: size
size: image ## what takes room in the image, crate by crate
	@$(lab) size

.PHONY: smoke
smoke: disk test-image ## boot the one image on every target, one table (about 3 minutes)
	@$(lab) smoke

.PHONY: doctor
doctor: ## install what the lab needs (as root on Debian), or name it
	@$(lab) doctor --install

.PHONY: bench-vm
bench-vm: image doctor ## the router in a VM against Linux in one: packets a second, boot time, instructions a packet
	@$(lab) bench-vm

.PHONY: bench-api
bench-api: image doctor ## the API with a thousand requests in flight while the router forwards (root, a minute)
	@$(lab) bench-api

.PHONY: bench-check
bench-check: image doctor ## guest instructions a packet against ci/instructions.txt (20 seconds)
	@$(lab) bench-vm --only weir --instructions --check

.PHONY: bench-record
bench-record: image doctor ## write them to ci/instructions.txt
	@$(lab) bench-vm --only weir --instructions --record

.PHONY: bench
bench: ## the stack alone, without a machine: packets a second, cycles and instructions a packet (2 idle cores, 3 minutes)
	@$(lab) bench-host
	@cargo bench --quiet --package weir-bpf --bench filter

.PHONY: bench-peers
bench-peers: ## the stack against DPDK and Linux, sample by sample on the same cores, and the design's bars (5 minutes)
	@$(lab) bench-peers

.PHONY: bench-docs
bench-docs: ## both, and filters, on an idle machine: replaces the figures in docs/performance
	@$(lab) bench-host --record
	@$(lab) bench-peers --record
	@cargo bench --quiet --package weir-bpf --bench filter -- --record

.PHONY: smoke-xen
smoke-xen: image doctor ## the router as a guest of real Xen, under QEMU (about 4 minutes)
	@$(lab) smoke-xen

.PHONY: smoke-xen-lab
smoke-xen-lab: doctor ## the same with a Linux router: proves the lab
	@$(lab) smoke-xen --guest linux

.PHONY: smoke-uhyve
smoke-uhyve: image test-image doctor ## the router on uhyve, in a Linux guest if there is no KVM (about a minute)
	@$(lab) smoke-uhyve

.PHONY: bench-xen
bench-xen: image doctor ## both routers as guests of one Xen: packets a second, TCP, CPU time
	@$(lab) bench-xen

.PHONY: mutate
mutate: image doctor ## a million broken frames into a running router, then a ping
	@$(lab) mutate --frames 1000000

# What libFuzzer wants to know of a program; no unstable option is among it.
coverage := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 --cfg fuzzing \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
SECONDS_EACH ?= 60

.PHONY: fuzz
fuzz: ## run each fuzz target for SECONDS_EACH=60, from fuzz/regressions on (wants g++)
	@cd fuzz && RUSTFLAGS='$(coverage)' cargo build --release --locked --quiet --target x86_64-unknown-linux-gnu
	@cd fuzz && for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do \
		mkdir -p corpus/$$target artifacts/$$target; \
		echo "fuzz $$target, $(SECONDS_EACH) s"; \
		target/x86_64-unknown-linux-gnu/release/$$target -max_total_time=$(SECONDS_EACH) -print_final_stats=1 \
			-verbosity=0 -artifact_prefix=artifacts/$$target/ corpus/$$target regressions/$$target; \
	done

.PHONY: loom
loom: ## models of the memory orderings in sync
	RUSTFLAGS='--cfg loom' cargo test --package weir-sync --lib --release --target-dir target/loom

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	rm -rf $(out)
