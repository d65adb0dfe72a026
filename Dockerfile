# syntax=docker/dockerfile:1

# skillhook in a container. The repository whose `.claude` it serves is mounted at /repo, its data (the ledger, the index,
# workspaces, the admin socket) lives in /data, and nothing else is written: the root may be read-only.
#
#   docker build -t skillhook .
#   docker run -d --name skillhook --init --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" \
#     -v "$PWD:/repo" -v skillhook-data:/data -p 8080:8080 -e GITHUB_WEBHOOK_SECRET skillhook
#   docker exec skillhook skillhook status
#
# With --user, /data must be writable for that user; without it, the user is 10001 and has to own the repository's files.
# The admin listener stays on the container's own loopback: use `docker exec`, do not publish it.
#
# The agent program is not part of this image. To add it, derive an image in which `claude` is on the PATH:
#
#   FROM skillhook
#   COPY --chmod=755 claude /usr/local/bin/claude
#
# bubblewrap needs user namespaces, which many container runtimes switch off; `skillhook doctor` says which sandbox is left.

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY . .
# No pkg-config and no development packages here on purpose: libgit2 and zlib are then built from the bundled sources.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin skillhook \
    && install -D -m 755 target/dist/skillhook /out/skillhook

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap ca-certificates git openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    # Git refuses repositories of another owner. Whoever mounts one at /repo means it.
    && git config --system --add safe.directory /repo \
    && useradd --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin skillhook \
    && install -d -o skillhook -g skillhook /repo
COPY --from=build /out/skillhook /usr/local/bin/skillhook
COPY LICENSE-MIT LICENSE-APACHE NOTICE /usr/share/doc/skillhook/

ENV HOME=/data \
    SKILLHOOK_DATA_DIR=/data
USER 10001:10001
WORKDIR /repo
VOLUME ["/repo", "/data"]
# The receiver. Everything that senders may reach.
EXPOSE 8080
# Exit code 0 means ready. It asks the running server through its socket in /data.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 CMD ["skillhook", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["skillhook", "up"]
