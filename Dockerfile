# The image of charts/krocket: docker build -t krocket/krocket .
FROM rust:1.95-bookworm AS build
WORKDIR /src
# Apart from the source, so that a change of that does not install again.
COPY scripts/setup scripts/setup
RUN scripts/setup
COPY . .
# RocksDB is most of the build: the cache keeps it from one build to the next.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --release --workspace --locked --bin krocket && \
    mkdir -p /out && strip --strip-debug -o /out/krocket /target/release/krocket

FROM debian:bookworm-slim
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates libstdc++6 && \
    rm -rf /var/lib/apt/lists/* && \
    install -d -o 65532 -g 65532 /var/lib/krocket
COPY --from=build /out/krocket /usr/local/bin/krocket
USER 65532:65532
VOLUME /var/lib/krocket
EXPOSE 9092 9644
ENTRYPOINT ["krocket"]
# For `docker run -p 9092:9092 -p 9644:9644`; the chart gives a file instead.
CMD ["serve", "--listen", "0.0.0.0:9092", "--advertised", "localhost:9092", "--http", "0.0.0.0:9644", "--data-dir", "/var/lib/krocket/data"]
