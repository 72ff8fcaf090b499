# The commands of this repository. Each installs what it lacks.
#   make test    everything that must hold, on real Envoys and a real PostgreSQL
#   make demo    the main job, live on this machine (ONCE=1: end by itself)
#   make build   atoll-cp, atoll-dp, atollctl in build/bin
#   make lint    vet, staticcheck, formatting
#   make bench   how fast it is: a table, and JSON in build/bench
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

include mk/tools.mk
include mk/build.mk
include mk/test.mk
