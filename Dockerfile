# Two images from one file. The last stage is what Home Assistant builds: it runs as root, as the Supervisor gives an
# add-on's options and certificates to root alone. Everybody else takes the stage before it, which has a user of its
# own: docker build --target server --tag voice-streaming .

FROM python:3.13.14-slim-trixie AS packages
COPY requirements.txt /tmp/requirements.txt
# Wheels only: a package without one for this machine ends the build, instead of asking for a compiler.
RUN python -m venv --without-pip /opt/voice-streaming \
    && python -m pip --python /opt/voice-streaming/bin/python install \
        --no-cache-dir --only-binary=:all: --disable-pip-version-check --requirement /tmp/requirements.txt

FROM python:3.13.14-slim-trixie AS server
LABEL org.opencontainers.image.title="Voice streaming relay" \
    org.opencontainers.image.description="Relays a microphone live to browsers (WebRTC) and players (MP3)" \
    org.opencontainers.image.licenses="MIT"
ENV PATH="/opt/voice-streaming/bin:$PATH" \
    PYTHONUNBUFFERED="1" \
    PYTHONDONTWRITEBYTECODE="1" \
    XDG_DATA_HOME="/data"
RUN groupadd --system --gid 10001 relay \
    && useradd --system --uid 10001 --gid relay --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin relay \
    && install --directory --owner=relay --group=relay /data
COPY --from=packages /opt/voice-streaming /opt/voice-streaming
WORKDIR /app
COPY LICENSE webrtc_server_relay.py audio_stream_server.py ./
COPY voice_streaming voice_streaming
COPY static static
EXPOSE 8080/tcp 8081/tcp 8443/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-m", "voice_streaming.program.healthcheck"]
USER 10001:10001
CMD ["python", "webrtc_server_relay.py"]

FROM server AS addon
ARG BUILD_VERSION=unreleased
LABEL io.hass.version="$BUILD_VERSION" \
    io.hass.type="app" \
    io.hass.arch="aarch64|amd64"
# hadolint ignore=DL3002
USER 0:0
