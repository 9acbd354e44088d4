# A static binary on nothing, not as root. Build: docker build -t mqttlb .
# deploy/check-image.sh builds and runs it without a registry.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -buildid= -X main.version=${VERSION}" -o /mqttlb ./cmd/mqttlb \
 && mkdir -p /rootfs/run/mqttlb /rootfs/etc/mqttlb && chown 65532:65532 /rootfs/run/mqttlb

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="mqttlb" \
      org.opencontainers.image.description="The load balancer that understands MQTT" \
      org.opencontainers.image.source="https://github.com/mqttlb/mqttlb" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /rootfs/ /
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /mqttlb /mqttlb
USER 65532:65532
# 1883 MQTT, 9180 metrics and health. Ports below 1024 would need NET_BIND_SERVICE.
EXPOSE 1883 9180
HEALTHCHECK --interval=10s --timeout=4s CMD ["/mqttlb", "healthcheck"]
ENTRYPOINT ["/mqttlb"]
CMD ["run", "-c", "/etc/mqttlb/mqttlb.yaml"]
