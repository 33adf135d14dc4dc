# docker build -t rlrep .   then   docker run -v $PWD/runs:/rlrep/runs rlrep make train
# With CUDA: docker build --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 --build-arg TORCH_INDEX= -t rlrep . , and docker run --gpus all
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends make python3 python3-venv libegl1 libgl1-mesa-dri \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /rlrep
COPY . .
# A pip index for torch, its CPU builds by default; empty is PyPI, whose builds bring CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV MUJOCO_GL=egl
RUN make setup
CMD ["make", "help"]
