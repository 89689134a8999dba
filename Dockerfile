# Two images from scratch: operator and predictor. Each has one binary, the shared
# libraries that it needs, certificates, and a user; no shell and no package manager.
#
# With Docker and the net:   docker buildx build --target predictor .
# From binaries built here:  scripts/image.sh, which replaces the stage `build` by a
#                            folder (--build-context build=DIR), so no base image is pulled.

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN scripts/onnxruntime.sh \
    && cargo build --locked --release -p stockpredictor-operator -p stockpredictor-predictor \
    && scripts/rootfs.sh operator /rootfs/operator \
    && scripts/rootfs.sh predictor /rootfs/predictor

FROM scratch AS operator
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="stockpredictor operator" \
      org.opencontainers.image.description="Turns StockPredictor objects into running predictors" \
      org.opencontainers.image.source="https://github.com/stockpredictor/stockpredictor" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /rootfs/operator/system/ /
ENV PATH=/usr/bin
USER 1001:1001
EXPOSE 8080
ENTRYPOINT ["/usr/bin/operator"]
CMD ["run"]

FROM scratch AS predictor
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="stockpredictor predictor" \
      org.opencontainers.image.description="Forecasts the next session of stocks with an LSTM in ONNX Runtime" \
      org.opencontainers.image.source="https://github.com/stockpredictor/stockpredictor" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /rootfs/predictor/system/ /
# The mount point is the user's: a volume that takes its ownership from the image is then writable.
COPY --from=build --chown=1001:1001 /rootfs/predictor/app/ /app/
# The library in the image sends no telemetry; one that someone puts in its place is told not to.
ENV PATH=/usr/bin ORT_DISABLE_TELEMETRY=1
USER 1001:1001
EXPOSE 8080
ENTRYPOINT ["/usr/bin/predictor"]
CMD ["serve"]
