.PHONY: build generate clean

BINARIES := atoll-cp atoll-dp atollctl
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
OBSERVE := github.com/atoll-mesh/atoll/pkg/observe
LDFLAGS := -s -w -X $(OBSERVE).version=$(VERSION)

build:
	@mkdir -p build/bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o build/bin/ $(addprefix ./app/,$(BINARIES))

# Go from the .proto files under api/; descriptions of the API from doc comments; the
# client of the API from its description.
generate:
	go run ./tools/genapi
	go run ./tools/describe
	go run ./tools/genclient

clean:
	rm -rf build
