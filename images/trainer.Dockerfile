# The image of a training pod: Python, torch and what the trainer and the runtime stand on.
#
# Build context: requirements.txt (exact versions) and wheels/ (may be empty; its wheels are taken first).
# Runs as an ordinary user, and on a read-only root file system: give it writable /tmp and /dev/shm.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE}
# `--no-index` where wheels/ holds everything
ARG PIP_OPTIONS=""
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt /usr/local/share/opt-operator/requirements.txt
RUN --mount=type=bind,source=wheels,target=/wheels \
    python3 -m pip install ${PIP_OPTIONS} --no-deps --find-links /wheels \
    -r /usr/local/share/opt-operator/requirements.txt
# Code comes precompiled or not at all: the root file system may be read-only. HOME is where libraries put caches.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["python3"]
