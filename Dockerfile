# The image holds one static binary and the CA certificates, nothing else: no shell, no root.
#
#   make image
#   docker run --network host dill:latest
#
# The host's network, because the ports dill opens are not known beforehand. A configuration file is
# mounted (-v /etc/dill:/etc/dill:ro) and named as argument (-config /etc/dill/dill.toml); without one,
# the environment (-e DILL_CONSUL_ADDRESS=…) and the defaults hold.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY controlplane controlplane
COPY dataplane dataplane
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/dill ./cmd/dill

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/dill /dill
USER 65532:65532
ENTRYPOINT ["/dill"]
