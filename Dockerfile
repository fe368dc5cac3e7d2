# The images of the service. Targets: api (the registry, the default), worker, serving, all (everything embedded).
#
#   docker build --tag model-service .
#   docker build --tag model-service-worker --target worker .
#
# An index of packages of your own: --secret id=pip,src=pip.conf. docs/containers.md has the rest.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1
WORKDIR /build
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip uninstall --yes setuptools

# The wheel of this project.
FROM builder AS wheel
COPY requirements/build.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporters exporters
COPY model_service model_service
RUN /opt/venv/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel .

# The environment of each target: its locked packages, then the wheel. pip is removed, since nothing is installed later.
# The byte code is not compared with its source, since no file changes. Some packages contain templates of code, which
# do not compile.
FROM builder AS environment-api
COPY requirements/api.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/api.txt
COPY --from=wheel /wheel /wheel
RUN /opt/venv/bin/pip install --no-index --no-deps /wheel/*.whl && /opt/venv/bin/pip uninstall --yes pip \
    && { python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash -x '/tests?/' /opt/venv || true; }

# The build without CUDA, from its own index.
FROM builder AS packages-torch
COPY requirements/torch.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/torch.txt

FROM packages-torch AS environment-serving
COPY requirements/serving.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/serving.txt
COPY --from=wheel /wheel /wheel
RUN /opt/venv/bin/pip install --no-index --no-deps /wheel/*.whl && /opt/venv/bin/pip uninstall --yes pip \
    && { python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash -x '/tests?/' /opt/venv || true; }

FROM packages-torch AS environment-worker
COPY requirements/worker.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/worker.txt
COPY --from=wheel /wheel /wheel
RUN /opt/venv/bin/pip install --no-index --no-deps /wheel/*.whl && /opt/venv/bin/pip uninstall --yes pip \
    && { python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash -x '/tests?/' /opt/venv || true; }

FROM packages-torch AS environment-all
COPY requirements/all.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/all.txt
COPY --from=wheel /wheel /wheel
RUN /opt/venv/bin/pip install --no-index --no-deps /wheel/*.whl && /opt/venv/bin/pip uninstall --yes pip \
    && { python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash -x '/tests?/' /opt/venv || true; }

# What the images share: the user, the folders, the first process. dumb-init forwards SIGTERM and reaps orphans.
FROM ${BASE_IMAGE} AS base
RUN groupadd --gid 10001 model-service \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /app \
        --shell /usr/sbin/nologin model-service \
    && install --directory --owner 10001 --group 10001 --mode 0755 /app /app/cache
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/app \
    MODEL_SERVICE_HOME=/app \
    LOG_FORMAT=json
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="model-service" \
    org.opencontainers.image.description="A registry that stores models, exports them, proves the result and serves it" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
STOPSIGNAL SIGTERM
ENTRYPOINT ["dumb-init", "--single-child", "--"]

# Frameworks load libgomp, and mongod libcurl. Debian removes earlier versions of a package from its mirrors, so a pinned
# version would soon break the build: DL3008 does not apply.
FROM base AS base-frameworks
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

FROM base-frameworks AS base-all
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libcurl4 && rm -rf /var/lib/apt/lists/*

FROM base-frameworks AS worker
COPY --from=environment-worker /opt/venv /opt/venv
ENV WORKER_METRICS_PORT=8086 MODEL_SERVICE_URL=http://127.0.0.1:8086
USER 10001:10001
EXPOSE 8086
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["model-service", "health"]
CMD ["python", "-m", "model_service.jobs"]

FROM base-frameworks AS serving
COPY --from=environment-serving /opt/venv /opt/venv
ENV INFERENCE_HOST=0.0.0.0 MODEL_SERVICE_URL=http://127.0.0.1:8085
USER 10001:10001
EXPOSE 8085
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["model-service", "health"]
CMD ["python", "-m", "model_service.serving"]

FROM base-all AS all
COPY --from=environment-all /opt/venv /opt/venv
ENV HOST=0.0.0.0 INFERENCE_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8084 8085
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["model-service", "health"]
CMD ["model-service", "up"]

# The last stage, which a build without --target makes. Redis may be unavailable: the registry starts without it.
FROM base AS api
COPY --from=environment-api /opt/venv /opt/venv
ENV HOST=0.0.0.0 REDIS_URL=redis://redis:6379/0
USER 10001:10001
EXPOSE 8084
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["model-service", "health"]
CMD ["python", "-m", "model_service.api"]
