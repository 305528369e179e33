# Trains and tests on processors; with --build-arg EXTRA=cuda on NVIDIA cards, too.
#
#   docker build -t impala .
#   mkdir -p runs       # Or Docker makes it, for root alone.
#   docker run --rm --user "$(id -u):$(id -g)" -e HOME=/tmp -v "$PWD/runs:/app/runs" impala --level_name=pong
#   docker run --rm impala --mode=test --pretrained=cartpole
FROM python:3.12-slim

ARG EXTRA=
RUN useradd --create-home --uid 1000 impala
WORKDIR /app

# Before the code, so that it is not installed again whenever that changes.
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt \
  && if [ "$EXTRA" = cuda ]; then pip install --no-cache-dir "$(sed -n 's/^tensorflow==/tensorflow[and-cuda]==/p' requirements.txt)"; fi

COPY pyproject.toml README.md run_experiment.py ./
COPY impala_tf impala_tf
COPY atari57 atari57
COPY dmlab30 dmlab30
COPY pretrained pretrained

RUN mkdir runs && chown impala runs
USER impala
VOLUME /app/runs
ENTRYPOINT ["python", "run_experiment.py"]
