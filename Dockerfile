# The images of the service. Targets: api (the registry, the default), worker, serving, all (everything embedded).
#
#   docker build --tag model-service .
#   docker build --tag model-service-worker --target worker .
#
# An index of packages of your own: --secret id=pip,src=pip.conf. docs/containers.md has the rest.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# pip has an environment of its own. That of the images, /opt/venv, has only the locked packages of a target.
FROM ${BASE_IMAGE} AS builder
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
ENV PATH=/opt/pip/bin:$PATH PIP_PYTHON=/opt/venv/bin/python PIP_NO_DEPS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build

# This project without its packages: a new version changes only this small layer of the images.
FROM builder AS project
COPY requirements/build.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporters exporters
COPY model_service model_service
RUN pip install --no-index --no-cache-dir --no-build-isolation --root /project .

FROM builder AS packages-api
COPY requirements/api.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --requirement requirements/api.txt

# The build without CUDA, from its own index.
FROM builder AS packages-torch
COPY requirements/torch.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --requirement requirements/torch.txt

FROM packages-torch AS packages-serving
COPY requirements/serving.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --requirement requirements/serving.txt

FROM packages-torch AS packages-worker
COPY requirements/worker.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --requirement requirements/worker.txt

FROM packages-torch AS packages-all
COPY requirements/all.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --requirement requirements/all.txt

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
COPY --from=packages-worker /opt/venv /opt/venv
COPY --from=project /project/opt/venv /opt/venv
ENV WORKER_METRICS_PORT=8086 MODEL_SERVICE_URL=http://127.0.0.1:8086
USER 10001:10001
EXPOSE 8086
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["model-service", "health"]
CMD ["python", "-m", "model_service.jobs"]

FROM base-frameworks AS serving
COPY --from=packages-serving /opt/venv /opt/venv
COPY --from=project /project/opt/venv /opt/venv
ENV INFERENCE_HOST=0.0.0.0 MODEL_SERVICE_URL=http://127.0.0.1:8085
USER 10001:10001
EXPOSE 8085
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["model-service", "health"]
CMD ["python", "-m", "model_service.serving"]

FROM base-all AS all
COPY --from=packages-all /opt/venv /opt/venv
COPY --from=project /project/opt/venv /opt/venv
ENV HOST=0.0.0.0 INFERENCE_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8084 8085
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["model-service", "health"]
CMD ["model-service", "up"]

# The last stage, which a build without --target makes. Redis may be unavailable: the registry starts without it.
FROM base AS api
COPY --from=packages-api /opt/venv /opt/venv
COPY --from=project /project/opt/venv /opt/venv
ENV HOST=0.0.0.0 REDIS_URL=redis://redis:6379/0
USER 10001:10001
EXPOSE 8084
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["model-service", "health"]
CMD ["python", "-m", "model_service.api"]
