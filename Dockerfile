# A worker of edit-dataset, or any of its commands, for a CPU (the default target) or for an NVIDIA GPU:
#   docker build -t edit-dataset:cpu .
#   docker build -t edit-dataset:cuda --target cuda .
# Every package has the version that constraints.txt names. docs/containers.md says how to use the images.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false PREFECT_CLI_PROMPT=false \
    PREFECT_WORKER_WEBSERVER_HOST=127.0.0.1 PREFECT_WORKER_WEBSERVER_PORT=8080 \
    EDIT_DATASET_FOLDER=/app
# 1000 is the number of the first user on most hosts, so that the container can write into a mounted folder.
RUN useradd --uid 1000 --create-home app && install -d -o app -g app /app /data /artifacts
USER 1000
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH
RUN python -m venv .venv
COPY --chown=1000:1000 . .
VOLUME /data
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
CMD ["prefect", "worker", "start", "--pool", "local", "--type", "process", "--with-healthcheck"]

FROM base AS cuda
# On Linux, PyPI's torch brings CUDA with it; the driver comes from the host.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN pip install -c constraints.txt -e '.[s3,postgres]' && dvc config --local core.no_scm true \
    && dvc pull -q && rm -r .dvc/cache

FROM base AS cpu
RUN pip install -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch torchvision \
    && pip install -c constraints.txt -e '.[s3,postgres]' && dvc config --local core.no_scm true \
    && dvc pull -q && rm -r .dvc/cache
