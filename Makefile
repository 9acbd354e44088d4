# Each target is one line of what a person would type. CI is .ci/run.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

build: ; CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o mqttlb ./cmd/mqttlb
test: ; go test ./...
race: ; go test -race -shuffle=on ./...
e2e: ; bash e2e/install.sh && E2E_REQUIRED=1 go test -count=1 ./e2e/...
SOAK ?= 10m
soak: ; SOAK=$(SOAK) E2E_REQUIRED=1 go test -count=1 -timeout 0 -v -run '^TestFaultL1Soak$$' ./e2e
fuzz: ; LONG=1 bash .ci/run
microbench: ; .ci/microbench -benchtime 1s
bench: ; bash bench/install.sh && cd bench && go run . run
lint: ; golangci-lint run ./... && cd bench && golangci-lint run --config ../.golangci.yml ./...
cover: ; go test -coverprofile=cover.out ./... && go tool cover -func cover.out | tail -n 1
demo: ; go run ./cmd/mqttlb demo --duration 20s
ci: ; bash .ci/run
release-check: ; bash deploy/release-check.sh
image: ; docker build --build-arg VERSION=$(VERSION) -t mqttlb:$(VERSION) .

.PHONY: build test race e2e soak fuzz microbench bench lint cover demo ci release-check image
