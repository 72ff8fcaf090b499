.PHONY: test lint demo bench

# PKG narrows a run: make test PKG=./pkg/kds/...
PKG ?= ./...
TESTFLAGS ?=

test: tools build
	go test -race -timeout 20m $(TESTFLAGS) $(PKG)

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
