.PHONY: test fuzz lint demo bench

# PKG narrows a run: make test PKG=./pkg/kds/...
PKG ?= ./...
TESTFLAGS ?=

test: tools build
	go test -race -timeout 20m $(TESTFLAGS) $(PKG)
	@if [ "$(PKG)" = "./..." ]; then $(MAKE) --no-print-directory fuzz; fi

# Every fuzz target a number of times; FUZZTIME=10m is longer. By time a run can end
# with "context deadline exceeded" though nothing was found (go.dev/issue/75804).
FUZZTIME ?= 1000x
fuzz:
	@set -e; git grep -n '^func Fuzz' -- '*_test.go' | sed 's|/[^/]*_test.go:[0-9]*:func | |; s|(.*||' | while read -r dir target; do \
		echo "fuzz $$dir $$target"; \
		go test ./$$dir -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME); \
	done

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

# Without PostgreSQL the demo goes on with SQLite and says so.
demo: envoy build
	@$(MAKE) --no-print-directory postgres || true
	@go build -o build/bin/atoll-demo ./tools/demo
	@build/bin/atoll-demo $(DEMOFLAGS)

bench: build
	@mkdir -p build/bench
	@go build -o build/bin/atoll-bench ./tools/bench
	@$(MAKE) --no-print-directory postgres envoy || true
	@build/bin/atoll-bench $(BENCHFLAGS)

# docs/policies: which golden and which test shows each field of each policy.
.PHONY: policy-tables
policy-tables: tools build
	go test ./test/traffic -count=1 -update
	go test ./test/telemetry -count=1 -update
	go test ./test/fields -count=1 -update
