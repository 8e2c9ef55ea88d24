# The server in a container: `docker build --tag eventodb .`, or with buildah or podman. compose.yaml shows how it is run.
#
# The first stage has the compilers, and the image that is kept has the program, its files and certificates of authorities.

ARG RUST=1-bookworm
ARG DEBIAN=bookworm-slim

FROM docker.io/library/rust:${RUST} AS build
WORKDIR /build
# The program's bytes are the same as outside of a container. Without the folder .git the version is told by Cargo.toml alone.
COPY . .
ARG PROFILE=release
RUN cargo build --locked --profile "$PROFILE" --bin eventodb \
 && install -D -m 0755 "target/$PROFILE/eventodb" /out/usr/bin/eventodb \
 && install -D -m 0644 LICENSE-APACHE LICENSE-MIT --target-directory /out/usr/share/doc/eventodb \
 && ops/package/licences >/out/usr/share/doc/eventodb/THIRD-PARTY-LICENCES.txt \
 && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt

FROM docker.io/library/debian:${DEBIAN}
COPY --from=build /out/ /
# Builders differ about who owns what is copied.
RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/eventodb
# A number, so that whoever runs the image can check that it is not root.
USER 10001:10001
WORKDIR /var/lib/eventodb
VOLUME /var/lib/eventodb
ENV EVENTODB_HOST=0.0.0.0 \
    EVENTODB_PORT=8080 \
    EVENTODB_DATA_DIR=/var/lib/eventodb \
    EVENTODB_SERVE_TOKEN_OUT=/var/lib/eventodb/admin-token \
    EVENTODB_LOG_FORMAT=json
EXPOSE 8080
STOPSIGNAL SIGTERM
# Whether the process serves requests. A full disk or a lost database is no reason to start it anew.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["/usr/bin/eventodb", "status", "--live"]
ENTRYPOINT ["/usr/bin/eventodb"]
CMD ["serve"]
