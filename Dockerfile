# docker build --target cpu  --tag polydraft:0.1.0-cpu .
# docker build --target cuda --tag polydraft:0.1.0-cuda .
# Models are mounted, not built in: at /models, with the demo family from models/ or your own.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# hadolint ignore=DL3008  # the newest of a stable release: security repairs, nothing else
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/polydraft
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./

# torch of the CPU index is a fifth of the size; it is the same version, which pip prefers for its local part.
FROM build AS build-cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/polydraft/bin/pip install --constraint constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu torch
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip /opt/polydraft/bin/pip install --constraint constraints.txt '.[aws]'

FROM build AS build-cuda
RUN --mount=type=cache,target=/root/.cache/pip /opt/polydraft/bin/pip install --constraint constraints.txt torch
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip /opt/polydraft/bin/pip install --constraint constraints.txt '.[aws]'

FROM python:${PYTHON}-slim-bookworm AS base
# KubeRay's own probes call wget.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 polydraft
# The last one holds Serve's proxy back for readers that are slow, wherever Ray is started from this image.
ENV PATH=/opt/polydraft/bin:$PATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.http_flow.middlewares
WORKDIR /home/polydraft
USER 1000
EXPOSE 50051 8000 8265
CMD ["polydraft", "serve", "/etc/polydraft/cluster.yaml"]

FROM base AS cpu
COPY --from=build-cpu /opt/polydraft /opt/polydraft

# Triton compiles what launches its kernels with a C compiler, when it first runs them.
FROM base AS cuda
USER 0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
USER 1000
COPY --from=build-cuda /opt/polydraft /opt/polydraft
