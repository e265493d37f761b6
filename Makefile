# dill. `make help` lists the targets; `make demo` and `make test` are the two to begin with.
#
# Needed are Go, make, git, and a C compiler for the race detector and Nomad. The rest is fetched or
# built here; without a C compiler the tests run without those two, and say so.

GO           ?= go
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE        ?= dill
PKGS         ?= ./...
TEST_FLAGS   ?=
TEST_TIMEOUT ?= 10m
# Packages tested at once. Many tests measure time or load the machine by themselves: half the CPUs.
TEST_PARALLEL ?= $(shell n=$$(getconf _NPROCESSORS_ONLN || echo 2); echo $$((n < 4 ? 1 : n / 2)))
FUZZTIME     ?= 60s

# A checkout that git does not trust, or no checkout at all, must build too.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

LDFLAGS = -s -w -X main.version=$(VERSION)
SERVERS = CONSUL="$(CURDIR)/bin/consul" NOMAD="$(CURDIR)/bin/nomad"

# Nomad cannot be built without a C compiler; then what needs a real one is left out.
SKIP = $(shell test -x bin/nomad || echo '-skip=^TestReal')

.DEFAULT_GOAL := help
.NOTPARALLEL:

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## build the static binary bin/dill
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/dill ./cmd/dill

.PHONY: demo
demo: build consul ## see it work: Consul, dill, ports that open and close (KEEP=1 leaves it running)
	@CONSUL="$(CURDIR)/bin/consul" $(GO) run ./scripts/demo -dill bin/dill $(if $(KEEP),-keep)

.PHONY: image
image: ## build the Docker image, tagged with the version and latest
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE):$(VERSION) -t $(IMAGE):latest .

##@ Test

.PHONY: test
test: consul nomad ## run all tests, with the race detector and a real Consul and Nomad
	@race=$$(sh scripts/race.sh); test -n "$$race" || export CGO_ENABLED=0; set -ex; \
	$(GO) build $$race -o /dev/null $(PKGS); \
	$(SERVERS) $(GO) test $$race $(SKIP) -shuffle=on -timeout=$(TEST_TIMEOUT) -p=$(TEST_PARALLEL) $(TEST_FLAGS) $(PKGS)

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (60s)
	@sh scripts/fuzz.sh $(FUZZTIME)

.PHONY: cover
cover: consul nomad ## run all tests and print the coverage of each package
	$(SERVERS) $(GO) test $(SKIP) -timeout=$(TEST_TIMEOUT) -p=$(TEST_PARALLEL) -coverpkg=./cmd/...,./controlplane/...,./dataplane/... -coverprofile=coverage.out $(PKGS)
	$(GO) tool cover -func=coverage.out | tail -1

.PHONY: ci
ci: ## everything CI runs
	$(MAKE) test
	$(MAKE) check
	$(MAKE) allocs
	$(MAKE) bench-once
	$(MAKE) build
	$(MAKE) demo
	$(MAKE) bench-quick

.PHONY: check
check: ## format, vet, staticcheck, go fix, tidy
	test -z "$$(gofmt -l cmd controlplane dataplane bench scripts | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	test -z "$$($(GO) fix -diff ./... | tee /dev/stderr)"
	$(GO) mod tidy -diff

.PHONY: allocs
allocs: ## the allocation tests, which the race detector would falsify
	$(GO) test -run='(?i)alloc' ./...

.PHONY: bench-once
bench-once: ## run each Go benchmark once, so that none rots
	$(GO) test -run='^$$' -bench=. -benchtime=1x ./...

##@ Measure

.PHONY: bench
bench: consul ## measure dill beside HAProxy, nginx, a plain Go proxy and no proxy; under half an hour
	@$(SERVERS) $(GO) run ./bench

.PHONY: bench-quick
bench-quick: consul ## the same in under two minutes, to see that it works
	@$(SERVERS) $(GO) run ./bench -quick

.PHONY: bench-compare
bench-compare: ## what changed between two results: OLD=a.json NEW=b.json
	@$(GO) run ./bench compare $(OLD) $(NEW)

.PHONY: bench-readme
bench-readme: ## put the table and the plots of the last make bench into bench/README.md
	$(GO) run ./bench readme

##@ Servers to test against

.PHONY: consul
consul: ## put a real Consul at bin/consul: $CONSUL, PATH, or built once
	@sh scripts/server.sh consul

.PHONY: nomad
nomad: ## put a real Nomad at bin/nomad: $NOMAD, PATH, or built once
	@sh scripts/server.sh nomad

##@ Upkeep

.PHONY: docs
docs: ## refresh what the READMEs quote: the settings, the example configuration
	$(GO) generate ./cmd/dill
	$(GO) test ./scripts -run=TestReadmeQuotes -update

.PHONY: clean
clean: ## remove what was built here (the kept Consul and Nomad stay in the user's cache)
	rm -rf bin coverage.out
